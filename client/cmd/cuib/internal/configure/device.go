package configure

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A deviceOwner is a kind of object that has devices: instances and profiles
// have the same commands for them.
type deviceOwner struct {
	command  string // Before "device".
	arg      string // In usage lines.
	one      string // A name for examples.
	names    kit.Completer
	devices  kit.Completer
	settings kit.Completer // Options of the device that is the second argument.
	read     func(ctx context.Context, name string) (own, expanded api.DevicesMap, err error)
	change   func(ctx context.Context, name string, change deviceChange) error
	preview  func(ctx context.Context, name string, change deviceChange) error
	override bool // It inherits devices.
}

// add gives an owner one more device.
func (o deviceOwner) add(ctx context.Context, owner, name string, device api.ConfigMap) error {
	return o.change(ctx, owner, func(devices, _ api.DevicesMap) error {
		if devices[name] != nil {
			return errs.Conflictf("%q has a device %q already: give another name", owner, name)
		}
		devices[name] = device
		return nil
	})
}

// remove takes the one device from an owner for which match holds, of those
// with the name if that is not empty. what says in errors which it is, such as
// "disk of volume \"x\"".
func (o deviceOwner) remove(ctx context.Context, owner, name, what string, match func(api.ConfigMap) bool) error {
	return o.change(ctx, owner, func(devices, _ api.DevicesMap) error {
		var found []string
		for _, have := range kit.KeysOf(devices) {
			if (name == "" || have == name) && match(devices[have]) {
				found = append(found, have)
			}
		}
		switch len(found) {
		case 0:
			return errs.NotFoundf("%q has no such %s", owner, what)
		case 1:
			delete(devices, found[0])
			return nil
		}
		return errs.Invalidf("%q has more than one %s: name one of %q", owner, what, found)
	})
}

func instanceDeviceOwner(e *env) deviceOwner {
	return deviceOwner{
		command: "config", arg: "INSTANCE", one: "web", names: kit.Instances, devices: kit.InstanceDevices, settings: kit.InstanceDeviceSettings, override: true,
		read: func(ctx context.Context, name string) (own, expanded api.DevicesMap, err error) {
			in, _, err := e.Client().Instance(ctx, name)
			return in.Devices, in.ExpandedDevices, err
		},
		change:  instanceDevices(e, e.writeInstance),
		preview: instanceDevices(e, e.previewInstance),
	}
}

func profileDeviceOwner(e *env) deviceOwner {
	return deviceOwner{
		command: "profile", arg: "PROFILE", one: "default", names: kit.Profiles, devices: kit.ProfileDevices, settings: kit.ProfileDeviceSettings,
		read: func(ctx context.Context, name string) (own, expanded api.DevicesMap, err error) {
			p, _, err := e.Client().Profile(ctx, name)
			return p.Devices, p.Devices, err
		},
		change:  profileDevices(profileKind(e).Change),
		preview: profileDevices(profileKind(e).Previewer(e.Env)),
	}
}

// A deviceChange changes the devices that an object has, of which expanded are
// those of its profiles too.
type deviceChange func(devices, expanded api.DevicesMap) error

func instanceDevices(e *env, write instanceWriter) func(context.Context, string, deviceChange) error {
	return func(ctx context.Context, name string, change deviceChange) error {
		return e.changeInstance(ctx, name, func(in *api.Instance) error { return change(in.Devices, in.ExpandedDevices) }, write)
	}
}

func profileDevices(by func(context.Context, string, func(*api.ProfilePut) error) error) func(context.Context, string, deviceChange) error {
	return func(ctx context.Context, name string, change deviceChange) error {
		return by(ctx, name, func(p *api.ProfilePut) error {
			if p.Devices == nil {
				p.Devices = api.DevicesMap{}
			}
			return change(p.Devices, p.Devices)
		})
	}
}

// dryRun gives a command the flag to show what it would change, and the owner
// whose changes are only shown with it.
func (o *deviceOwner) dryRun(cmd *cobra.Command) *bool {
	dry, change := kit.DryRun(cmd), o.change
	o.change = func(ctx context.Context, name string, how deviceChange) error {
		if *dry {
			return o.preview(ctx, name, how)
		}
		return change(ctx, name, how)
	}
	return dry
}

func newDevice(e *env, o deviceOwner) *cobra.Command {
	commands := []*cobra.Command{
		o.newAdd(e), o.newGet(e), o.newList(e), o.newRemove(e), o.newSet(e), o.newShow(e), o.newUnset(e),
	}
	if o.override {
		commands = append(commands, o.newOverride(e))
	}
	return kit.Group("device", "Manage devices", o.example("add", "data disk source=/srv/web path=/srv"), commands...)
}

func (o deviceOwner) example(verb, rest string) string {
	return strings.TrimRight(fmt.Sprintf("  cuib %s device %s %s %s", o.command, verb, o.one, rest), " ")
}

// missing is the error for a device that the object does not have of its own.
func (o deviceOwner) missing(owner, device string, expanded api.DevicesMap) error {
	if _, inherited := expanded[device]; inherited {
		return errs.NotFoundf("device %q of %q comes from a profile: change it there, or use \"cuib config device override\"", device, owner)
	}
	return errs.NotFoundf("device %q not found in %q", device, owner)
}

// changeDevice changes a device that the object has.
func (o deviceOwner) changeDevice(ctx context.Context, owner, device string, change func(api.ConfigMap)) error {
	return o.change(ctx, owner, func(devices, expanded api.DevicesMap) error {
		if devices[device] == nil {
			return o.missing(owner, device, expanded)
		}
		change(devices[device])
		return nil
	})
}

func (o deviceOwner) newAdd(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use: "add " + o.arg + " DEVICE TYPE [KEY=VALUE...]", Short: "Add a device",
		Long:    "Add a device. Its type is disk, gpu, nic, none, proxy, tpm, unix-block, unix-char,\nunix-hotplug or usb; which options each has is in docs/devices.md.",
		Example: o.example("add", "data disk source=/srv/web path=/srv") + "\n" + o.example("add", "eth1 nic network=cuibbr0"),
		Args:    kit.Needs(3, -1), ValidArgsFunction: e.Complete(o.names, kit.None, kit.DeviceTypes, kit.NewDeviceSettings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			options, err := kit.Pairs(args[3:])
			if err != nil {
				return err
			}
			options["type"] = args[2]
			err = o.change(cmd.Context(), args[0], func(devices, _ api.DevicesMap) error {
				if devices[args[1]] != nil {
					return errs.Conflictf("%q has a device %q already", args[0], args[1])
				}
				devices[args[1]] = options
				return nil
			})
			if err == nil && !*dry {
				e.Say("Device %s added to %s", args[1], args[0])
			}
			return err
		}),
	}
	dry = o.dryRun(cmd)
	return cmd
}

func (o deviceOwner) newOverride(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use: "override " + o.arg + " DEVICE [KEY=VALUE...]", Short: "Take a device over from a profile, and change it",
		Example: o.example("override", "root size=20GiB"),
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(o.names, o.devices, o.settings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			options, err := kit.Pairs(args[2:])
			if err != nil {
				return err
			}
			err = o.change(cmd.Context(), args[0], func(devices, expanded api.DevicesMap) error {
				switch {
				case devices[args[1]] != nil:
					return errs.Conflictf("%q has a device %q of its own already", args[0], args[1])
				case expanded[args[1]] == nil:
					return errs.NotFoundf("no profile of %q has a device %q", args[0], args[1])
				}
				devices[args[1]] = maps.Clone(expanded[args[1]])
				return kit.SetKeys(devices[args[1]], options)
			})
			if err == nil && !*dry {
				e.Say("Device %s overridden for %s", args[1], args[0])
			}
			return err
		}),
	}
	dry = o.dryRun(cmd)
	return cmd
}

func (o deviceOwner) newSet(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set " + o.arg + " DEVICE KEY=VALUE...", Short: "Set options of a device",
		Example: o.example("set", "data readonly=true"),
		Args:    kit.Needs(3, -1), ValidArgsFunction: e.Complete(o.names, o.devices, o.settings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			options, err := e.Settings(args[2:])
			if err != nil {
				return err
			}
			return o.changeDevice(cmd.Context(), args[0], args[1], func(d api.ConfigMap) { _ = kit.SetKeys(d, options) })
		}),
	}
	o.dryRun(cmd)
	return cmd
}

func (o deviceOwner) newUnset(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unset " + o.arg + " DEVICE KEY", Short: "Unset an option of a device",
		Example: o.example("unset", "data readonly"),
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(o.names, o.devices, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return o.changeDevice(cmd.Context(), args[0], args[1], func(d api.ConfigMap) { delete(d, args[2]) })
		}),
	}
	o.dryRun(cmd)
	return cmd
}

func (o deviceOwner) newRemove(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use: "remove " + o.arg + " DEVICE...", Aliases: []string{"rm"}, Short: "Remove devices",
		Example: o.example("remove", "data"),
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(o.names, o.devices),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			err := o.change(cmd.Context(), args[0], func(devices, expanded api.DevicesMap) error {
				for _, name := range args[1:] {
					if devices[name] == nil {
						return o.missing(args[0], name, expanded)
					}
					delete(devices, name)
				}
				return nil
			})
			for _, name := range args[1:] {
				if err == nil && !*dry {
					e.Say("Device %s removed from %s", name, args[0])
				}
			}
			return err
		}),
	}
	dry = o.dryRun(cmd)
	return cmd
}

func (o deviceOwner) newGet(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "get " + o.arg + " DEVICE KEY", Short: "Show an option of a device",
		Example: o.example("get", "data source"),
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(o.names, o.devices, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			devices, expanded, err := o.read(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if devices[args[1]] == nil {
				return o.missing(args[0], args[1], expanded)
			}
			fmt.Fprintln(e.Out, devices[args[1]][args[2]])
			return nil
		}),
	}
}

func (o deviceOwner) newList(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "list " + o.arg, Aliases: []string{"ls"}, Short: "List devices",
		Example: o.example("list", ""),
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(o.names, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			devices, _, err := o.read(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("format") {
				for _, name := range kit.KeysOf(devices) {
					fmt.Fprintln(e.Out, name)
				}
				return nil
			}
			return v.Write(e.Env, deviceTable(devices))
		}),
	}
	v.FormatFlag(cmd)
	return cmd
}

func deviceTable(devices api.DevicesMap) output.Table {
	t := output.Table{Header: []string{"NAME", "TYPE"}, Data: devices}
	for _, name := range kit.KeysOf(devices) {
		t.Rows = append(t.Rows, []string{name, devices[name]["type"]})
	}
	return t
}

func (o deviceOwner) newShow(e *env) *cobra.Command {
	var v kit.ObjectView
	cmd := &cobra.Command{
		Use: "show " + o.arg, Short: "Show all devices",
		Example: o.example("show", ""),
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(o.names, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			devices, _, err := o.read(cmd.Context(), args[0])
			return v.Show(e.Env, devices, err)
		}),
	}
	v.Flags(cmd)
	return cmd
}
