package volume

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

type exportOptions struct {
	compression           string
	volumeOnly, optimized bool
}

func newExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use: "export POOL VOLUME [FILE]", Short: "Save a custom volume and its snapshots as an archive",
		Long:    "Save a custom volume and its snapshots as an archive, which Incus and LXD read\ntoo. FILE can be a directory, or \"-\" for the standard output. The volume can be\nin use.",
		Example: "  cuib storage volume export default data\n  cuib storage volume export default data data.tar.zst --compression zstd\n  cuib storage volume export default data - | ssh host cuib storage volume import default -",
		Args:    kit.Needs(2, 3), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.LocalFiles),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			req := api.StorageVolumeBackupsPost{VolumeOnly: o.volumeOnly, OptimizedStorage: o.optimized, CompressionAlgorithm: o.compression}
			return e.Save(cmd.Context(), kit.Download{
				What: "volume " + v.Name, Name: v.Name, Target: strings.Join(args[2:], ""),
				Fill: func(ctx context.Context, w io.Writer) error { return e.Client().ExportStorageVolume(ctx, v, req, w) },
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.volumeOnly, "volume-only", false, "leave the snapshots out")
	f.BoolVar(&o.optimized, "optimized-storage", false, kit.OptimizedHelp)
	f.StringVar(&o.compression, "compression", "", kit.CompressionHelp)
	e.CompleteFlag(cmd, "compression", kit.Compressions)
	return cmd
}

func newImport(e *env) *cobra.Command {
	var typ string
	cmd := &cobra.Command{
		Use: "import POOL FILE [VOLUME]", Short: "Make a custom volume of an archive or an ISO image",
		Long:    "Make a custom volume, with its snapshots, of an archive that export made, here or\non Incus or LXD; or of an ISO image, which only can be read. FILE can be \"-\" for\nthe standard input.",
		Example: "  cuib storage volume import default data.tar.gz\n  cuib storage volume import default data.tar.gz restored\n  cuib storage volume import default debian.iso installer",
		Args:    kit.Needs(2, 3), ValidArgsFunction: e.Complete(kit.Pools, kit.LocalFiles, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			if !cmd.Flag("type").Changed && strings.HasSuffix(args[1], ".iso") {
				typ = "iso"
			}
			return e.importVolume(cmd.Context(), typ, args)
		}),
	}
	cmd.Flags().StringVar(&typ, "type", "backup", "backup, or iso; iso for files whose name ends with .iso")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(importTypes, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	return cmd
}

var importTypes = []string{"backup", "iso"}

func (e *env) importVolume(ctx context.Context, typ string, args []string) error {
	if !slices.Contains(importTypes, typ) {
		return errs.Invalidf("type %q is none of %s", typ, strings.Join(importTypes, ", "))
	}
	up := client.VolumeUpload{IsISO: typ == "iso", Name: strings.Join(args[2:], "")}
	if up.IsISO && up.Name == "" {
		if args[1] == "-" {
			return errs.Invalidf("an ISO image from the standard input has no name: give one for the volume")
		}
		up.Name = strings.TrimSuffix(filepath.Base(args[1]), ".iso")
	}
	op, err := e.Send(ctx, args[1], func(ctx context.Context, r io.Reader) (*client.Operation, error) {
		up.Content = r
		return e.Client().ImportStorageVolume(ctx, args[0], up)
	})
	if err != nil {
		return err
	}
	name := op.Made("storage_volumes")
	if name == "" {
		name = up.Name
	}
	e.Say("Storage volume %s imported", name)
	return nil
}
