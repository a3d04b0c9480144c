package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/client/cmd/cuib/internal/volume"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var poolColumns = []output.Column[api.StoragePool]{
	{Key: 'n', Name: "NAME", Value: func(p api.StoragePool) string { return p.Name }},
	{Key: 'D', Name: "DRIVER", Value: func(p api.StoragePool) string { return p.Driver }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(p api.StoragePool) string { return p.Description }},
	{Key: 'S', Name: "SOURCE", Value: func(p api.StoragePool) string { return p.Config["source"] }},
	{Key: 'u', Name: "USED BY", Value: func(p api.StoragePool) string { return kit.Count(p.UsedBy) }},
	{Key: 's', Name: "STATE", Value: func(p api.StoragePool) string { return strings.ToUpper(p.Status) }},
}

func newStorage(e *env) *cobra.Command {
	volumes := volume.New(e.Env, newVolumeAttach(e), newVolumeAttachProfile(e), newVolumeDetach(e), newVolumeDetachProfile(e))
	return kit.Group("storage", "Manage storage pools",
		"  cuib storage create fast btrfs source=/dev/sdb\n  cuib storage info fast",
		newStorageCreate(e), newStorageDelete(e), kit.NewEdit(e.Env, poolKind(e)), kit.NewKeyGet(e.Env, poolKind(e)), newStorageInfo(e),
		newStorageList(e), kit.NewKeySet(e.Env, poolKind(e)), newStorageShow(e), kit.NewKeyUnset(e.Env, poolKind(e)), volumes,
	)
}

func poolKind(e *env) kit.Kind[api.StoragePool, api.StoragePoolPut] {
	return kit.Kind[api.StoragePool, api.StoragePoolPut]{
		Command: "storage", What: "a storage pool", Arg: "POOL", Pair: "default size=50GiB", Names: kit.Pools, Keys: kit.PoolKeys, All: kit.PoolSettings,
		Read: e.Client().StoragePool, Update: e.Client().UpdateStoragePool,
		Put:    func(p *api.StoragePool) *api.StoragePoolPut { return &p.StoragePoolPut },
		Config: func(p *api.StoragePoolPut) *api.ConfigMap { return &p.Config },
	}
}

func newStorageCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create POOL DRIVER [KEY=VALUE...]", Short: "Create a storage pool",
		Long: `Create a storage pool with one of the drivers

  overlay  layers in a directory; the default
  btrfs    subvolumes of a btrfs file system: a new one in a file of "size", one
           on a block device, or a directory on one that exists, as "source" says
  zfs      datasets of a zpool: a new one in a file of "size" or on a block
           device, a zpool that exists, or a dataset on one, as "source" says
  dir      plain directories, which copies everything

YAML on the standard input, in the form that "cuib storage show" has, is what it
begins with. A source that holds data is refused.`,
		Example: "  cuib storage create fast btrfs source=/dev/sdb\n  cuib storage create small btrfs size=10GiB\n  cuib storage create tank zfs source=tank/cuib",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.None, kit.DriverNames, kit.NewPoolSettings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.StoragePoolsPost{Name: args[0], Driver: args[1]}
			if err := kit.CreateConfig[api.StoragePool](e.Env, args[2:], &req.StoragePoolPut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			if err := e.Client().CreateStoragePool(cmd.Context(), req); err != nil {
				return err
			}
			e.Say("Storage pool %s created", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the pool")
	return cmd
}

func newStorageDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Storage pool", kit.Use("POOL", "unused storage pools", "  cuib storage delete fast"), kit.Pools,
		e.Client().DeleteStoragePool)
}

func newStorageList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.StoragePool]{
		What: "storage pools", Columns: poolColumns, Usual: "nDdus", Example: "  cuib storage list",
		Read: (*client.Client).StoragePools, Shared: true,
	})
}

func newStorageInfo(e *env) *cobra.Command {
	var bytes bool
	cmd := &cobra.Command{
		Use: "info POOL", Short: "Show how much room a storage pool has, and who uses it",
		Example: "  cuib storage info default",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Pools, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			format := kit.Size[uint64]
			if bytes {
				format = func(n uint64) string { return fmt.Sprint(n) }
			}
			return e.storageInfo(cmd.Context(), args[0], format)
		}),
	}
	cmd.Flags().BoolVar(&bytes, "bytes", false, "show plain numbers of bytes")
	return cmd
}

func (e *env) storageInfo(ctx context.Context, name string, format func(uint64) string) error {
	p, _, err := e.Client().StoragePool(ctx, name)
	if err != nil {
		return err
	}
	room, err := e.Client().StoragePoolResources(ctx, name)
	if err != nil && !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Unsupported) {
		return err
	}
	fmt.Fprintf(e.Out, "Name: %s\nDriver: %s\nDescription: %s\nStatus: %s\n", p.Name, p.Driver, output.Plain(p.Description), p.Status)
	if err != nil {
		e.Warn("Room: %v", err) // Who uses a pool that is not there is known.
	} else {
		e.writeRoom(room, format)
	}
	e.WriteUsers(p.UsedBy)
	return nil
}

func (e *env) writeRoom(room api.ResourcesStoragePool, format func(uint64) string) {
	fmt.Fprintf(e.Out, "Space used: %s%s\nTotal space: %s\n", format(room.Space.Used), share(room.Space), format(room.Space.Total))
	if room.Inodes.Total > 0 {
		fmt.Fprintf(e.Out, "Inodes used: %d%s\nTotal inodes: %d\n", room.Inodes.Used, share(room.Inodes), room.Inodes.Total)
	}
}

func newStorageShow(e *env) *cobra.Command {
	var resources bool
	cmd := kit.NewShow(e.Env, poolKind(e))
	cmd.Flags().BoolVar(&resources, "resources", false, "show how much room it has, instead")
	show := cmd.RunE
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error {
		if !resources {
			return show(cmd, args)
		}
		room, err := e.Client().StoragePoolResources(cmd.Context(), args[0])
		return kit.ObjectView{Format: cmd.Flag("format").Value.String()}.Show(e.Env, room, err)
	})
	return cmd
}

// share returns how much of something is used.
func share(u api.ResourcesUsage) string {
	if u.Total == 0 {
		return ""
	}
	return " (" + kit.Percent(u.Used, u.Total) + ")"
}
