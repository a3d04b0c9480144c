package profiles

import (
	"net/netip" //nolint:depguard // It parses, and looks at no host.
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	wantCNIConfig = `the name in a CNI configuration of the host: letters, digits, and ".", "_", "-", with a letter or digit first`
	wantCNIPorts  = `ports as HOST:INSTANCE, such as "8080:80", "192.0.2.1:8080:80" or "[2001:db8::1]:53:53/udp", with commas between them`
)

// nicPluginOptions are those of NICs that network plugins make.
func nicPluginOptions() []Option {
	return []Option{
		option(Key{Name: "cni.config", Type: String, Allowed: wantCNIConfig, Doc: "The CNI configuration, from the server's cni.config_dir, whose plugins make the interface.", check: is(isCNIConfig)}),
		option(Key{Name: "cni.ports", Type: String, Allowed: wantCNIPorts, Doc: "The host's ports that plugins are to have lead to the instance; one must have the capability portMappings.", check: is(func(v string) bool { _, err := ParseCNIPorts(v); return err == nil })}),
	}
}

// isCNIConfig has nothing that a path needs: names are compared, and never
// opened.
func isCNIConfig(v string) bool {
	const most = 128
	return v != "" && len(v) <= most && only(v, letters+digits+"._-") && !strings.ContainsRune("._-", rune(v[0]))
}

// CNIPort is a port of the host that is to lead to one of the instance.
type CNIPort struct {
	HostIP     netip.Addr // Not valid for all.
	Host, Port int
	UDP        bool
}

// ParseCNIPorts reads the value of cni.ports.
func ParseCNIPorts(v string) ([]CNIPort, error) {
	if !oneLine(v) {
		return nil, errs.Invalidf("got %q, want one line", v)
	}
	var all []CNIPort
	for _, s := range SplitList(v) {
		one, err := parseCNIPort(s)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func parseCNIPort(s string) (CNIPort, error) {
	wrong := errs.Invalidf("got %q, want %s", s, wantCNIPorts)
	var p CNIPort
	ports, protocol, some := strings.Cut(s, "/")
	if some && protocol != "udp" && protocol != "tcp" {
		return p, wrong
	}
	p.UDP = protocol == "udp"
	i := strings.LastIndexByte(ports, ':')
	if i < 0 {
		return p, wrong
	}
	host, port := ports[:i], ports[i+1:]
	if strings.Contains(host, ":") {
		at, err := netip.ParseAddrPort(host)
		if err != nil || at.Addr().Zone() != "" {
			return p, wrong
		}
		p.HostIP, host = at.Addr(), strconv.Itoa(int(at.Port()))
	}
	a, err := strconv.ParseUint(host, 10, 16)
	b, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || a == 0 || b == 0 {
		return p, wrong
	}
	p.Host, p.Port = int(a), int(b) //nolint:gosec // They are small.
	return p, nil
}
