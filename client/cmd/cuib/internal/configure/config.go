package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func newConfig(e *env) *cobra.Command {
	return kit.Group("config", "Configure instances and the daemon",
		"  cuib config set web limits.memory=1GiB\n  cuib config device add web data disk source=/srv/web path=/srv",
		newConfigEdit(e), newConfigGet(e), newConfigMetadata(e), newConfigSet(e), newConfigShow(e), newConfigTemplate(e), newConfigUnset(e),
		newDevice(e, instanceDeviceOwner(e)),
	)
}

type configOptions struct {
	property, expanded bool
	dry                *bool
}

// instanceWriter writes an instance back.
type instanceWriter func(ctx context.Context, name string, put api.InstancePut, etag string) error

func (e *env) writeInstance(ctx context.Context, name string, put api.InstancePut, etag string) error {
	op, err := e.Client().UpdateInstance(ctx, name, put, etag)
	return e.Wait(ctx, op, err)
}

// previewInstance shows what would become of an instance if it were written
// back.
func (e *env) previewInstance(ctx context.Context, name string, put api.InstancePut, etag string) error {
	all, err := e.Client().PreviewInstance(ctx, name, put, etag)
	if err != nil {
		return err
	}
	return kit.ShowPreview(e.Env, all)
}

// instanceWriter returns what writes an instance back, or only shows what that
// would change.
func (e *env) instanceWriter(dry *bool) instanceWriter {
	if *dry {
		return e.previewInstance
	}
	return e.writeInstance
}

// changeInstance reads an instance, changes it, and writes it back.
func (e *env) changeInstance(ctx context.Context, name string, change func(*api.Instance) error, write instanceWriter) error {
	in, etag, err := e.Client().Instance(ctx, name)
	if err != nil {
		return err
	}
	if in.Config == nil {
		in.Config = api.ConfigMap{}
	}
	if in.Devices == nil {
		in.Devices = api.DevicesMap{}
	}
	if err := change(&in); err != nil {
		return err
	}
	return write(ctx, name, in.InstancePut, etag)
}

func errDryRun() error {
	return errs.Invalidf("--dry-run is for the configuration of an instance: that of the daemon or of a snapshot changes no instance")
}

// changeServer does with the daemon's configuration what changeInstance does.
func (e *env) changeServer(ctx context.Context, change func(api.ConfigMap) error) error {
	s, etag, err := e.Client().Server(ctx)
	if err != nil {
		return err
	}
	if s.Config == nil {
		s.Config = api.ConfigMap{}
	}
	if err := change(s.Config); err != nil {
		return err
	}
	return e.Client().UpdateServer(ctx, s.ServerPut, etag)
}

func newConfigSet(e *env) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:     "set [INSTANCE] KEY=VALUE...",
		Short:   "Set keys of an instance or of the daemon",
		Long:    "Set keys. An empty value unsets a key, and \"-\" reads it from the standard input.",
		Example: "  cuib config set web limits.cpu=2 limits.memory=1GiB\n  cuib config set web --property description='the web server'\n  cuib config set core.dns_address=192.0.2.1",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.ConfigTargets, kit.TargetSettings),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, keys, err := e.configTarget(args)
			if err != nil {
				return err
			}
			return e.setConfig(cmd.Context(), o, name, keys)
		},
	}
	o.dry = kit.DryRun(cmd)
	cmd.Flags().BoolVarP(&o.property, "property", "p", false, "set a property of the instance, such as description")
	return cmd
}

// configTarget reads the arguments [INSTANCE] KEY=VALUE... The name is empty
// if the keys are the daemon's.
func (e *env) configTarget(args []string) (name string, keys api.ConfigMap, err error) {
	// One KEY VALUE without an instance is the daemon's: its keys have a dot,
	// which names of instances do not.
	if strings.Contains(args[0], "=") || len(args) == 2 && strings.Contains(args[0], ".") && !strings.Contains(args[1], "=") {
		keys, err = e.Settings(args)
		return "", keys, err
	}
	if name, err = kit.Local(args[0]); err != nil {
		return "", nil, err
	}
	if len(args) == 1 {
		return "", nil, errs.Invalidf("nothing to set: give KEY=VALUE")
	}
	keys, err = e.Settings(args[1:])
	return name, keys, err
}

func (e *env) setConfig(ctx context.Context, o configOptions, name string, keys api.ConfigMap) error {
	if name == "" && *o.dry {
		return errDryRun()
	}
	if name == "" {
		return e.changeServer(ctx, func(config api.ConfigMap) error { return kit.SetKeys(config, keys) })
	}
	return e.changeInstance(ctx, name, func(in *api.Instance) error {
		if o.property {
			return kit.SetProperties(&in.InstancePut, keys)
		}
		return kit.SetKeys(in.Config, keys)
	}, e.instanceWriter(o.dry))
}

func newConfigUnset(e *env) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:     "unset [INSTANCE] KEY",
		Short:   "Unset a key of an instance or of the daemon",
		Example: "  cuib config unset web limits.memory\n  cuib config unset core.dns_address",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.ConfigSources, kit.InstanceKeys, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := kit.Local(args[0])
			if err != nil {
				return err
			}
			key := args[len(args)-1]
			if len(args) == 1 {
				name = ""
			}
			return e.setConfig(cmd.Context(), o, name, api.ConfigMap{key: ""})
		},
	}
	o.dry = kit.DryRun(cmd)
	cmd.Flags().BoolVarP(&o.property, "property", "p", false, "unset a property of the instance")
	return cmd
}

func newConfigGet(e *env) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:     "get [INSTANCE] KEY",
		Short:   "Show the value of a key",
		Example: "  cuib config get web limits.memory\n  cuib config get web limits.cpu --expanded\n  cuib config get core.dns_address",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.ConfigSources, kit.InstanceKeys, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error { return e.getConfig(cmd.Context(), o, args) },
	}
	cmd.Flags().BoolVarP(&o.property, "property", "p", false, "show a property of the instance")
	cmd.Flags().BoolVarP(&o.expanded, "expanded", "e", false, "as the profiles and the instance have it together")
	return cmd
}

func (e *env) getConfig(ctx context.Context, o configOptions, args []string) error {
	if len(args) == 1 {
		s, _, err := e.Client().Server(ctx)
		if err == nil {
			fmt.Fprintln(e.Out, s.Config[args[0]])
		}
		return err
	}
	name, err := kit.Local(args[0])
	if err != nil {
		return err
	}
	in, _, err := e.Client().Instance(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case o.property:
		value, err := kit.Property(in, args[1])
		if err != nil {
			return err
		}
		fmt.Fprintln(e.Out, value)
	case o.expanded:
		fmt.Fprintln(e.Out, in.ExpandedConfig[args[1]])
	default:
		fmt.Fprintln(e.Out, in.Config[args[1]])
	}
	return nil
}

func newConfigShow(e *env) *cobra.Command {
	var o configOptions
	var v kit.ObjectView
	cmd := &cobra.Command{
		Use:     "show [INSTANCE[/SNAPSHOT]]",
		Short:   "Show the configuration of an instance or of the daemon",
		Example: "  cuib config show web\n  cuib config show web --expanded",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			object, err := e.configOf(cmd.Context(), o, args)
			return v.Show(e.Env, object, err)
		}),
	}
	cmd.Flags().BoolVarP(&o.expanded, "expanded", "e", false, "as the profiles and the instance have it together")
	v.Flags(cmd)
	return cmd
}

// shownInstance is the part of an instance that people configure.
type shownInstance struct {
	api.InstancePut

	Name string `json:"name"`
}

func (e *env) configOf(ctx context.Context, o configOptions, args []string) (any, error) {
	if len(args) == 0 || args[0] == "" {
		s, _, err := e.Client().Server(ctx)
		return s.ServerPut, err
	}
	if instance, snapshot, ok := strings.Cut(args[0], "/"); ok {
		s, _, err := e.Client().Snapshot(ctx, instance, snapshot)
		return s, err
	}
	in, _, err := e.Client().Instance(ctx, args[0])
	if o.expanded {
		in.Config, in.Devices = in.ExpandedConfig, in.ExpandedDevices
	}
	return shownInstance{in.InstancePut, in.Name}, err
}

func newConfigEdit(e *env) *cobra.Command {
	var dry *bool
	cmd := &cobra.Command{
		Use:     "edit [INSTANCE[/SNAPSHOT]]",
		Short:   "Edit the configuration of an instance or of the daemon",
		Long:    "Edit configuration as YAML in $EDITOR. YAML on the standard input is taken\ninstead.",
		Example: "  cuib config edit web\n  cuib config edit web < web.yaml",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			object := strings.Join(args, "")
			instance, snapshot, ofSnapshot := strings.Cut(object, "/")
			switch {
			case *dry && (object == "" || ofSnapshot):
				return errDryRun()
			case object == "":
				return e.editServer(ctx)
			case ofSnapshot:
				return e.editSnapshot(ctx, instance, snapshot)
			}
			return e.editInstance(ctx, object, e.instanceWriter(dry))
		}),
	}
	dry = kit.DryRun(cmd)
	return cmd
}

func (e *env) editInstance(ctx context.Context, name string, write instanceWriter) error {
	return e.Edit(ctx, kit.Edit{
		Help: kit.EditHelp,
		Read: func() (any, string, error) {
			in, etag, err := e.Client().Instance(ctx, name)
			return shownInstance{in.InstancePut, in.Name}, etag, err
		},
		Write: func(text []byte, etag string) error {
			var put api.InstancePut
			if err := output.ParseYAMLPart[api.InstanceFull](text, &put); err != nil {
				return err
			}
			return write(ctx, name, put, etag)
		},
	})
}

func (e *env) editSnapshot(ctx context.Context, instance, name string) error {
	return e.Edit(ctx, kit.Edit{
		Help: kit.EditHelp + "Of a snapshot only expires_at and description can be changed.\n",
		Read: func() (any, string, error) {
			s, etag, err := e.Client().Snapshot(ctx, instance, name)
			return s, etag, err
		},
		Write: func(text []byte, etag string) error {
			var put api.InstanceSnapshotPut
			if err := output.ParseYAMLPart[api.InstanceSnapshot](text, &put); err != nil {
				return err
			}
			return e.Client().UpdateSnapshot(ctx, instance, name, put, etag)
		},
	})
}

func (e *env) editServer(ctx context.Context) error {
	return e.Edit(ctx, kit.Edit{
		Help: kit.EditHelp,
		Read: func() (any, string, error) {
			s, etag, err := e.Client().Server(ctx)
			return s.ServerPut, etag, err
		},
		Write: func(text []byte, etag string) error {
			var put api.ServerPut
			if err := output.ParseYAML(text, &put); err != nil {
				return err
			}
			return e.Client().UpdateServer(ctx, put, etag)
		},
	})
}

func newConfigMetadata(e *env) *cobra.Command {
	var v kit.ObjectView
	shown := &cobra.Command{
		Use: "show INSTANCE", Short: "Show the metadata that came with the image",
		Example: "  cuib config metadata show web",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			meta, _, err := e.Client().InstanceMetadata(cmd.Context(), args[0])
			return v.Show(e.Env, meta, err)
		}),
	}
	v.Flags(shown)
	edited := &cobra.Command{
		Use: "edit INSTANCE", Short: "Edit the metadata that came with the image",
		Example: "  cuib config metadata edit web",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), args[0]
			return e.Edit(ctx, kit.Edit{
				Help: kit.EditHelp,
				Read: func() (any, string, error) {
					meta, etag, err := e.Client().InstanceMetadata(ctx, name)
					return meta, etag, err
				},
				Write: func(text []byte, etag string) error {
					var meta api.ImageMetadata
					if err := output.ParseYAML(text, &meta); err != nil {
						return err
					}
					return e.Client().UpdateInstanceMetadata(ctx, name, meta, etag)
				},
			})
		}),
	}
	return kit.Group("metadata", "Show and edit what came with an instance's image", "  cuib config metadata show web", edited, shown)
}
