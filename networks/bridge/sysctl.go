package bridge

import (
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
)

// applySysctls sets what the bridge needs of the kernel.
func applySysctls(cfg networks.Config) error {
	if cfg.IPv4.Address.IsValid() && cfg.IPv4.Routing {
		if err := host.ForwardIPv4(); err != nil {
			return err
		}
	}
	if !(host.Kernel{}).HasIPv6() {
		if cfg.IPv6.Address.IsValid() {
			return errs.Newf(errs.Unsupported, "the kernel has no IPv6: set ipv6.address to \"none\"")
		}
		return nil
	}
	conf := "ipv6/conf/" + cfg.Name + "/"
	if !cfg.IPv6.Address.IsValid() {
		return host.SetSysctl(conf+"disable_ipv6", "1")
	}
	for _, s := range []struct{ key, value string }{
		{"disable_ipv6", "0"},
		{"accept_dad", "0"},
		{"accept_ra", "0"}, // Guests do not tell the host where to go.
		{"autoconf", "0"},
	} {
		if err := host.SetSysctl(conf+s.key, s.value); err != nil {
			return err
		}
	}
	if !cfg.IPv6.Routing {
		return nil
	}
	return host.ForwardIPv6()
}
