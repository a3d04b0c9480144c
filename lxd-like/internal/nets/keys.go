package nets

import (
	"path/filepath"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/project"
)

// Networks and instances are known by their keys here. The host and drivers
// know a network by its link, and the network knows an instance by its name in
// DNS.

// parse returns what a network's configuration means. Its addresses are
// chosen already.
func parse(n db.Network) (networks.Config, error) {
	cfg, err := netkeys.Parse(n.Type, n.Config)
	cfg.Name, cfg.Key = project.Link(n.Name), n.Name
	return cfg, err
}

// dir is the daemon's directory for a network.
func (s *Service) dir(network string) string {
	return filepath.Join(s.Dir, "networks", project.Link(network))
}

// HostName is what an instance is called in the domain of a network, or of a
// zone, that has a key: its name, and behind that its project's if it is of
// another. It is empty if that can be no name in DNS.
func HostName(key, instance string) string {
	of, name := project.SplitInstance(instance)
	return below(key, of, name)
}

// below is a name of a project as it is in a domain that is of one, too.
func below(key, of, name string) string {
	if of == project.Of(key) {
		return name
	}
	if networks.CheckDomain(of) != nil {
		return ""
	}
	return name + "." + of
}

// HostOf is [HostName] for the host itself on a network.
func HostOf(key, network string) string {
	of, name := project.Split(network)
	return below(key, of, name+".gw")
}
