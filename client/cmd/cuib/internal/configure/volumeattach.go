package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

const (
	volumeAttachUsage = " [DEVICE] [PATH]"
	volumeAttachHelp  = "The device is called\nas the volume if you give it no name. PATH is where the files appear; a volume that\nis attached already elsewhere is shared."
)

// onVolumeOwner completes a command that does run with a pool, a volume, and
// an object that has devices, and maybe more arguments, most in all.
func (e *env) onVolumeOwner(cmd *cobra.Command, o deviceOwner, most int, run func(ctx context.Context, o deviceOwner, args []string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(3, most), e.Complete(kit.Pools, kit.Volumes, o.names, kit.None)
	cmd.RunE = kit.Named(3, func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), o, args) })
	return cmd
}

func newVolumeAttach(e *env) *cobra.Command {
	return e.newAttach(&cobra.Command{
		Use: "attach POOL VOLUME INSTANCE" + volumeAttachUsage, Short: "Give an instance a custom volume",
		Long:    "Give an instance a custom volume, at once if it runs. " + volumeAttachHelp,
		Example: "  cuib storage volume attach default data web /srv\n  cuib storage volume attach default data web shared /mnt/shared --readonly",
	}, instanceDeviceOwner(e))
}

func newVolumeAttachProfile(e *env) *cobra.Command {
	return e.newAttach(&cobra.Command{
		Use: "attach-profile POOL VOLUME PROFILE" + volumeAttachUsage, Short: "Give all instances of a profile a custom volume",
		Long:    "Give all instances of a profile a custom volume. " + volumeAttachHelp,
		Example: "  cuib storage volume attach-profile default data small /srv",
	}, profileDeviceOwner(e))
}

func (e *env) newAttach(cmd *cobra.Command, o deviceOwner) *cobra.Command {
	disk := api.ConfigMap{"type": "disk"}
	readonly := cmd.Flags().BoolP("readonly", "r", false, "let nobody write to it there")
	return e.onVolumeOwner(cmd, o, 5, func(ctx context.Context, o deviceOwner, args []string) error {
		if *readonly {
			disk["readonly"] = "true"
		}
		return e.attachVolume(ctx, o, disk, args)
	})
}

// attachVolume adds a disk; args are POOL, VOLUME, its owner, and maybe the
// names of the device and of the directory in the guest.
func (e *env) attachVolume(ctx context.Context, o deviceOwner, disk api.ConfigMap, args []string) error {
	name := strings.TrimPrefix(args[1], kit.CustomVolume+"/")
	device := name
	disk["pool"], disk["source"] = args[0], name
	switch {
	case len(args) > 4:
		device, disk["path"] = args[3], args[4]
	case len(args) > 3 && strings.HasPrefix(args[3], "/"):
		disk["path"] = args[3]
	case len(args) > 3:
		device = args[3]
	}
	v, _, err := e.Client().StorageVolume(ctx, client.Volume{Pool: args[0], Type: kit.CustomVolume, Name: name})
	if err != nil {
		return err
	}
	if disk["path"] == "" && v.ContentType != "iso" {
		return errs.Invalidf("no path given: say where in %q the volume is to appear, such as /mnt/%s", args[2], name)
	}
	return o.add(ctx, args[2], device, disk)
}

func newVolumeDetach(e *env) *cobra.Command {
	return e.onVolumeOwner(&cobra.Command{
		Use: "detach POOL VOLUME INSTANCE [DEVICE]", Short: "Take a custom volume away from an instance",
		Example: "  cuib storage volume detach default data web",
	}, instanceDeviceOwner(e), 4, e.detachVolume)
}

func newVolumeDetachProfile(e *env) *cobra.Command {
	return e.onVolumeOwner(&cobra.Command{
		Use: "detach-profile POOL VOLUME PROFILE [DEVICE]", Short: "Take a custom volume away from a profile",
		Example: "  cuib storage volume detach-profile default data small",
	}, profileDeviceOwner(e), 4, e.detachVolume)
}

// detachVolume removes the disk that is a volume; args are POOL, VOLUME, its
// owner, and the device if there are several.
func (e *env) detachVolume(ctx context.Context, o deviceOwner, args []string) error {
	pool, name, device := args[0], strings.TrimPrefix(args[1], kit.CustomVolume+"/"), strings.Join(args[3:], "")
	return o.remove(ctx, args[2], device, fmt.Sprintf("disk of volume %q in pool %q", name, pool), func(d api.ConfigMap) bool {
		return d["type"] == "disk" && d["pool"] == pool && d["source"] == name
	})
}
