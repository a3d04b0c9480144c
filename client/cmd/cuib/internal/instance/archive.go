package instance

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
)

type exportOptions struct {
	compression                       string
	instanceOnly, rootOnly, optimized bool
}

func newExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use: "export INSTANCE [FILE]", Short: "Save an instance and its snapshots as an archive",
		Long:    "Save an instance, running or not, and its snapshots as an archive, which Incus\nand LXD read too. FILE can be a directory, or \"-\" for the standard output; without\none it is a file of the instance's name here. It has its name when it is whole.",
		Example: "  cuib export web\n  cuib export web /backup/web.tar.zst --compression zstd\n  cuib export web - --instance-only | ssh host cuib import -",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.LocalFiles),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			name := args[0]
			req := api.InstanceBackupsPost{
				InstanceOnly: o.instanceOnly, RootOnly: o.rootOnly, OptimizedStorage: o.optimized, CompressionAlgorithm: o.compression,
			}
			return e.Save(cmd.Context(), kit.Download{
				What: "instance " + name, Name: name, Target: strings.Join(args[1:], ""),
				Fill: func(ctx context.Context, w io.Writer) error { return e.Client().ExportInstance(ctx, name, req, w) },
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.instanceOnly, "instance-only", false, "leave the snapshots out")
	f.BoolVar(&o.rootOnly, "root-only", false, "leave all disks but the root disk out")
	f.BoolVar(&o.optimized, "optimized-storage", false, kit.OptimizedHelp)
	f.StringVar(&o.compression, "compression", "", kit.CompressionHelp)
	e.CompleteFlag(cmd, "compression", kit.Compressions)
	return cmd
}

type importOptions struct {
	storage         string
	config, devices []string
}

func newImport(e *env) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import FILE [NAME]", Short: "Make an instance of an archive",
		Long:    "Make an instance, with its snapshots, of an archive that export made, here or on\nIncus or LXD. FILE can be \"-\" for the standard input.",
		Example: "  cuib import web.tar.gz\n  cuib import web.tar.gz web2 --storage fast\n  cuib import - web2 -d root,size=20GiB < web.tar.zst",
		Args:    kit.Needs(1, 3), ValidArgsFunction: e.Complete(kit.LocalFiles, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "local:" && len(args) > 1 {
				args = args[1:]
			}
			if err := kit.Needs(1, 2)(cmd, args); err != nil {
				return err
			}
			return e.importInstance(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.storage, "storage", "s", "", "storage pool, instead of the one in the archive")
	f.StringArrayVarP(&o.devices, "device", "d", nil, "device option to change, as name,key=value")
	f.StringArrayVarP(&o.config, "config", "c", nil, "key=value to change in the configuration")
	e.CompleteFlag(cmd, "config", kit.InstanceSettings)
	e.CompleteFlag(cmd, "storage", kit.Pools)
	return cmd
}

func (e *env) importInstance(ctx context.Context, o importOptions, args []string) (err error) {
	up := client.InstanceUpload{Pool: o.storage, Name: strings.Join(args[1:], "")}
	if up.Config, err = kit.Pairs(o.config); err != nil {
		return err
	}
	if up.Devices, err = deviceOptions(o.devices); err != nil {
		return err
	}
	op, err := e.Send(ctx, args[0], func(ctx context.Context, r io.Reader) (*client.Operation, error) {
		up.Archive = r
		return e.Client().ImportInstance(ctx, up)
	})
	if err != nil {
		return err
	}
	name := op.Made("instances")
	if name == "" {
		name = up.Name
	}
	e.Say("Imported %s", name)
	return nil
}
