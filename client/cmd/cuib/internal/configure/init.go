package configure

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/client/cmd/cuib/internal/preseed"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

type initOptions struct {
	auto, minimal, preseed, dump bool
	setup
}

// A setup is what admin init makes.
type setup struct {
	pool, driver, device string
	size                 string // Of a new pool's file system, for drivers that have one.
	network              string // Empty for none.
	ipv4, ipv6           string
}

func newAdminInit(e *env) *cobra.Command {
	var o initOptions
	loop := 0
	cmd := &cobra.Command{
		Use: "init [FILE]", Short: "Set the daemon up",
		Long: `Make a storage pool and a network, and a default profile that uses them. Without
flags you are asked. With --preseed all is done as a YAML document says, from
FILE or the standard input, or nothing is if something fails. Networks, storage
volumes and profiles in it can have a "project"; all else is in "default".`,
		Example: "  cuib admin init --auto\n  cuib admin init --preseed < cuib.yaml\n  cuib admin init --dump > cuib.yaml",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			if loop > 0 {
				o.size = fmt.Sprintf("%dGiB", loop)
			}
			return e.init(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.auto, "auto", false, "ask nothing")
	f.BoolVar(&o.minimal, "minimal", false, "the same as --auto")
	f.BoolVar(&o.preseed, "preseed", false, "read what to make as YAML")
	f.BoolVar(&o.dump, "dump", false, "print what is there, as --preseed reads it")
	f.StringVar(&o.driver, "storage-backend", "", "driver of the pool; the best that the host can run if none is given")
	f.StringVar(&o.device, "storage-create-device", "", "block device for the pool")
	f.IntVar(&loop, "storage-create-loop", 0, "size in GiB of the pool's file system")
	f.StringVar(&o.pool, "storage-pool", "default", "name of the pool")
	cmd.MarkFlagsMutuallyExclusive("auto", "preseed", "dump", "minimal")
	return cmd
}

func (e *env) init(ctx context.Context, o initOptions, args []string) error {
	switch {
	case o.dump:
		d, err := preseed.Dump(ctx, e.Client(), e.Warn)
		if err != nil {
			return err
		}
		return output.YAML(e.Out, d)
	case o.preseed:
		return e.applyPreseed(ctx, args)
	}
	if len(args) > 0 {
		return errs.Invalidf("a file is read only with --preseed")
	}
	s, err := e.proposal(ctx, o.setup)
	if err != nil {
		return err
	}
	if !o.auto && !o.minimal {
		if s, err = e.ask(s); err != nil {
			return err
		}
	}
	d, err := e.planned(ctx, s)
	if err != nil {
		return err
	}
	return preseed.Apply(ctx, e.Client(), d)
}

func (e *env) applyPreseed(ctx context.Context, args []string) error {
	read := func() ([]byte, error) { return io.ReadAll(e.In) }
	if len(args) == 1 && args[0] != "-" {
		read = func() ([]byte, error) { return os.ReadFile(args[0]) }
	}
	data, err := read()
	if err != nil {
		return err
	}
	d, err := preseed.Parse(data)
	if err != nil {
		return err
	}
	return preseed.Apply(ctx, e.Client(), d)
}

const defaultNetwork = "cuibbr0"

// proposal completes a setup with what fits this host.
func (e *env) proposal(ctx context.Context, s setup) (setup, error) {
	server, _, err := e.Client().Server(ctx)
	if err != nil {
		return s, err
	}
	if s.driver == "" {
		s.driver = usualDriver(server.Environment.StorageDrivers)
	}
	s.network, s.ipv4, s.ipv6 = defaultNetwork, "auto", "auto"
	return s, nil
}

// usualDriver returns the driver for a pool of which nothing is said. It is the
// one that the daemon itself takes when it makes a pool on first use.
func usualDriver(supported []api.ServerStorageDriver) string {
	for _, d := range supported {
		if d.Name == "overlay" {
			return d.Name
		}
	}
	return "dir"
}

// planned returns what makes a setup of what is there.
func (e *env) planned(ctx context.Context, s setup) (preseed.Document, error) {
	var d preseed.Document
	pools, err := e.Client().StoragePoolNames(ctx)
	if err != nil {
		return d, err
	}
	if !slices.Contains(pools, s.pool) {
		p := api.StoragePoolsPost{Name: s.pool, Driver: s.driver}
		p.Config = api.ConfigMap{}
		for key, value := range map[string]string{"source": s.device, "size": s.size} {
			if value != "" {
				p.Config[key] = value
			}
		}
		d.StoragePools = append(d.StoragePools, p)
	}
	profile := preseed.Profile{ProfilesPost: api.ProfilesPost{Name: "default"}}
	profile.Devices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": s.pool}}
	if s.network != "" {
		networks, err := e.Client().In(project.Default).NetworkNames(ctx)
		if err != nil {
			return d, err
		}
		if !slices.Contains(networks, s.network) {
			n := preseed.Network{NetworksPost: api.NetworksPost{Name: s.network, Type: "bridge"}}
			n.Config = api.ConfigMap{"ipv4.address": s.ipv4, "ipv6.address": s.ipv6}
			d.Networks = append(d.Networks, n)
		}
		profile.Devices["eth0"] = api.ConfigMap{"type": "nic", "name": "eth0", "network": s.network}
	}
	d.Profiles = append(d.Profiles, profile)
	return d, nil
}
