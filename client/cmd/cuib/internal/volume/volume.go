// Package volume has the commands that are about the volumes of storage pools.
package volume

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// env is what a command has of the world.
type env struct {
	*kit.Env
}

// New returns the group of commands. Those that change instances and profiles
// come from elsewhere.
func New(k *kit.Env, attach ...*cobra.Command) *cobra.Command {
	e := &env{k}
	cmd := kit.Group("volume", "Manage the volumes of storage pools",
		"  cuib storage volume create default data size=10GiB\n  cuib storage volume attach default data web /srv",
		newCopy(e), newCreate(e), newDelete(e), kit.NewEdit(k, kind(e)), newExport(e), files.Group(k, place(e)), newGet(e), newImport(e),
		newInfo(e), newList(e), newMove(e), newRename(e), newRestore(e, "storage volume restore"), kit.NewKeySet(k, kind(e)), newShow(e), newSnapshot(e),
		kit.NewKeyUnset(k, kind(e)),
	)
	cmd.Long = "Manage the volumes of storage pools. A name is that of a custom volume, which\nusers make, unless it has a type before it, as container/web."
	cmd.AddCommand(attach...)
	return cmd
}

// types are those that can stand before the name of a volume.
var types = []string{kit.CustomVolume, "container", "image"}

// parse parses [TYPE/]VOLUME[/SNAPSHOT].
func parse(pool, arg string) (v client.Volume, snapshot string, err error) {
	v = client.Volume{Pool: pool, Type: kit.CustomVolume}
	if before, rest, ok := strings.Cut(arg, "/"); ok && slices.Contains(types, before) {
		v.Type, arg = before, rest
	}
	v.Name, snapshot, _ = strings.Cut(arg, "/")
	if v.Pool == "" || v.Name == "" || strings.Contains(snapshot, "/") {
		return v, "", errs.Invalidf("volume %q of pool %q is not of the form [TYPE/]VOLUME, where TYPE is one of %s", arg, pool, strings.Join(types, ", "))
	}
	return v, snapshot, nil
}

// volume is [parse] for what is no snapshot.
func volume(pool, arg string) (client.Volume, error) {
	v, snapshot, err := parse(pool, arg)
	if err == nil && snapshot != "" {
		return v, errs.Invalidf("%q is a snapshot: want the volume %q", arg, v.Name)
	}
	return v, err
}

// joined parses POOL/[TYPE/]VOLUME[/SNAPSHOT].
func joined(arg string) (v client.Volume, snapshot string, err error) {
	pool, name, ok := strings.Cut(arg, "/")
	if !ok {
		return v, "", errs.Invalidf("%q is not of the form POOL/VOLUME", arg)
	}
	return parse(pool, name)
}

// snapshotOf parses VOLUME SNAPSHOT, or VOLUME/SNAPSHOT, after a pool.
func snapshotOf(args []string) (v client.Volume, snapshot string, err error) {
	v, snapshot, err = parse(args[0], args[1])
	switch {
	case err != nil:
		return v, "", err
	case snapshot == "" && len(args) > 2:
		return v, args[2], nil
	case snapshot == "" || len(args) > 2:
		return v, "", errs.Invalidf("want one snapshot, as VOLUME SNAPSHOT or VOLUME/SNAPSHOT: got %q", args[1:])
	}
	return v, snapshot, nil
}

const volumeArg = "POOL [TYPE/]VOLUME"

func kind(e *env) kit.Kind[api.StorageVolume, api.StorageVolumePut] {
	return kit.Kind[api.StorageVolume, api.StorageVolumePut]{
		Command: "storage volume", What: "a volume", Arg: volumeArg, Pair: "default data size=20GiB", Within: kit.Pools, Names: kit.AllVolumes, Keys: keys, All: kit.VolumeSettings,
		Read: func(ctx context.Context, name string) (api.StorageVolume, string, error) {
			v, snapshot, err := joined(name)
			if err != nil {
				return api.StorageVolume{}, "", err
			}
			if snapshot != "" {
				return api.StorageVolume{}, "", errs.Invalidf("%q is a snapshot, which stays as it is: \"cuib storage volume snapshot edit\" changes when it expires", v.Name+"/"+snapshot)
			}
			return e.Client().StorageVolume(ctx, v)
		},
		Update: func(ctx context.Context, name string, put api.StorageVolumePut, etag string) error {
			v, _, err := joined(name)
			if err != nil {
				return err
			}
			return e.Client().UpdateStorageVolume(ctx, v, put, etag)
		},
		Put:    func(v *api.StorageVolume) *api.StorageVolumePut { return &v.StorageVolumePut },
		Config: func(v *api.StorageVolumePut) *api.ConfigMap { return &v.Config },
	}
}

// keys completes keys that the volume has.
func keys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	v, err := volume(args[0], args[1])
	if err != nil {
		return nil, err
	}
	now, _, err := e.Client().StorageVolume(ctx, v)
	return kit.KeysOf(now.Config), err
}

// place says how volumes have files.
func place(e *env) files.Place {
	return files.Place{
		Command: "storage volume file", What: "a volume", Arg: "POOL VOLUME", One: "default data", Within: kit.Pools,
		Names: func(ctx context.Context, k *kit.Env, args []string) ([]string, error) {
			names, err := kit.Volumes(ctx, k, args)
			for i := range names {
				names[i] += "/"
			}
			return names, err
		},
		Open: func(ctx context.Context, pool, name string) (net.Conn, error) {
			return e.Client().StorageVolumeSFTP(ctx, client.Volume{Pool: pool, Type: kit.CustomVolume, Name: name})
		},
	}
}

func newCreate(e *env) *cobra.Command {
	var description, typ string
	cmd := &cobra.Command{
		Use: "create POOL VOLUME [KEY=VALUE...]", Short: "Create a custom volume",
		Long:    "Create an empty custom volume. YAML on the standard input, in the form that\n\"cuib storage volume show\" has, is what it begins with.",
		Example: "  cuib storage volume create default data\n  cuib storage volume create default data size=10GiB snapshots.schedule=@daily\n  cuib storage volume create default data initial.uid=33 initial.gid=33 initial.mode=0750",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Pools, kit.None, kit.VolumeSettings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			if v.Type != kit.CustomVolume {
				return errs.Invalidf("a volume of type %q comes with what it is for: only custom volumes are made so", v.Type)
			}
			req := api.StorageVolumesPost{Name: v.Name, Type: v.Type, ContentType: typ}
			if err := kit.CreateConfig[api.StorageVolume](e.Env, args[2:], &req.StorageVolumePut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			op, err := e.Client().CreateStorageVolume(cmd.Context(), v.Pool, req)
			if err := e.Wait(cmd.Context(), op, err); err != nil {
				return err
			}
			e.Say("Storage volume %s created", v.Name)
			return nil
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the volume")
	cmd.Flags().StringVar(&typ, "type", "filesystem", "what it holds; \"import\" makes volumes of type iso")
	return cmd
}

func newDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete POOL VOLUME[/SNAPSHOT]...", Aliases: []string{"rm"}, Short: "Delete custom volumes and their snapshots",
		Example: "  cuib storage volume delete default data\n  cuib storage volume delete default data/before",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args[1:] {
				v, snapshot, err := parse(args[0], name)
				if err != nil {
					return err
				}
				if snapshot != "" {
					err = e.deleteSnapshot(cmd.Context(), v, snapshot)
				} else {
					op, serr := e.Client().DeleteStorageVolume(cmd.Context(), v)
					err = e.Wait(cmd.Context(), op, serr)
				}
				if err != nil {
					return err
				}
				e.Say("Storage volume %s deleted", name)
			}
			return nil
		}),
	}
}

func newRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename POOL VOLUME NAME", Short: "Rename an unused custom volume, or a snapshot",
		Example: "  cuib storage volume rename default data archive\n  cuib storage volume rename default data/old data/new",
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, snapshot, err := parse(args[0], args[1])
			if err != nil {
				return err
			}
			if snapshot != "" {
				return e.renameSnapshot(cmd.Context(), v, snapshot, strings.TrimPrefix(args[2], v.Name+"/"))
			}
			op, err := e.Client().MoveStorageVolume(cmd.Context(), v, api.StorageVolumePost{Name: args[2]})
			return e.Wait(cmd.Context(), op, err)
		}),
	}
}

func newGet(e *env) *cobra.Command {
	cmd := kit.NewKeyGet(e.Env, kind(e))
	whole := cmd.RunE
	cmd.Use = "get POOL [TYPE/]VOLUME[/SNAPSHOT] KEY"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pool, err := kit.Local(args[0])
		if err != nil {
			return err
		}
		v, snapshot, err := parse(pool, args[1])
		if err != nil || snapshot == "" {
			return whole(cmd, args)
		}
		s, _, err := e.Client().StorageVolumeSnapshot(cmd.Context(), v, snapshot)
		if err != nil {
			return err
		}
		value := s.Config[args[2]]
		if cmd.Flag("property").Changed {
			if value, err = kit.Property(s, args[2]); err != nil {
				return err
			}
		}
		fmt.Fprintln(e.Out, value)
		return nil
	}
	return cmd
}

func newShow(e *env) *cobra.Command {
	var view kit.ObjectView
	cmd := &cobra.Command{
		Use: "show POOL [TYPE/]VOLUME[/SNAPSHOT]", Short: "Show all of a volume",
		Example: "  cuib storage volume show default data\n  cuib storage volume show default container/web",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Pools, kit.AllVolumes, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, snapshot, err := parse(args[0], args[1])
			if err != nil {
				return err
			}
			if snapshot != "" {
				s, _, err := e.Client().StorageVolumeSnapshot(cmd.Context(), v, snapshot)
				return view.Show(e.Env, s, err)
			}
			now, _, err := e.Client().StorageVolume(cmd.Context(), v)
			return view.Show(e.Env, now, err)
		}),
	}
	view.Flags(cmd)
	return cmd
}
