package nets

import (
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
)

// parse returns what a network's configuration means. Its addresses are
// chosen already.
func parse(n db.Network) (networks.Config, error) {
	cfg, err := netkeys.Parse(n.Type, n.Config)
	cfg.Name = n.Name
	return cfg, err
}
