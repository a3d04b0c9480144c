package instance

import (
	"context"
	"maps"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// createOptions are the flags of create and launch.
type createOptions struct {
	config, devices, profiles []string
	network, storage          string
	description, envFile      string
	ephemeral, noProfiles     bool
	publish                   []string
	expose                    string
	empty                     bool
	typ                       string
	image                     string // That it is made of; empty for none.
	console                   bool
}

func (o *createOptions) flags(e *env, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&o.config, "config", "c", nil, "key=value of the configuration")
	f.StringArrayVarP(&o.devices, "device", "d", nil, "device option, as name,key=value")
	f.StringArrayVarP(&o.profiles, "profile", "p", nil, "profile, instead of those of the image, which are \"default\" if nothing is said; again for more; also ports, as for --publish")
	f.StringArrayVar(&o.publish, "publish", nil, "[ADDRESS:]PORT:INSTANCE-PORT[/udp] of the host that leads to the instance; again for more")
	f.StringVar(&o.expose, "expose", "", "host-firewall: what that refuses stays out; public: published ports are open whatever it says")
	f.StringVarP(&o.network, "network", "n", "", "network for the first interface, or none; or host for the host's own network")
	f.StringVarP(&o.storage, "storage", "s", "", "storage pool for the root disk")
	f.StringVar(&o.description, "description", "", "text that describes the instance")
	f.StringVar(&o.envFile, "environment-file", "", "file of KEY=VALUE lines for the environment")
	f.BoolVarP(&o.ephemeral, "ephemeral", "e", false, "delete the instance when it stops")
	f.BoolVar(&o.noProfiles, "no-profiles", false, "use no profile at all")
	f.BoolVar(&o.empty, "empty", false, "make an instance without an image")
	f.StringVarP(&o.typ, "type", "t", "", "type of instance; there is only \"container\"")
	e.CompleteFlag(cmd, "config", kit.InstanceSettings)
	e.CompleteFlag(cmd, "profile", kit.Profiles)
	e.CompleteFlag(cmd, "network", func(ctx context.Context, k *kit.Env, args []string) ([]string, error) {
		all, err := kit.Networks(ctx, k, args)
		return append(all, networkHost, networkNone), err
	})
	e.CompleteFlag(cmd, "storage", kit.Pools)
}

const imageHelp = `IMAGE is an alias or the beginning of a fingerprint of an image that the
daemon has. If there is none of that name and it says a distribution and a
suite, such as debian:bookworm, the daemon builds the image first.

Without a NAME the daemon chooses one. YAML on the standard input, in the form
that "cuib config show" has, is the configuration to begin with. If it names an
instance, volatile.* in it are that one's and left out.`

func newCreate(e *env) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:               "create IMAGE [NAME]",
		Aliases:           []string{"init"},
		Short:             "Create an instance",
		Long:              "Create an instance, and do not start it.\n\n" + imageHelp,
		Example:           "  cuib create debian:bookworm db -c limits.memory=1GiB\n  cuib create --empty blank",
		Args:              kit.Needs(0, 2),
		ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := e.create(cmd.Context(), o, args, false)
			if err == nil {
				e.Say("Created %s", name)
			}
			return err
		},
	}
	o.flags(e, cmd)
	return cmd
}

func newLaunch(e *env) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:               "launch IMAGE [NAME]",
		Short:             "Create and start an instance",
		Long:              "Create an instance and start it.\n\n" + imageHelp,
		Example:           "  cuib launch debian:bookworm web\n  cuib launch debian:trixie -p default -p small -d root,size=10GiB\n  cuib launch debian:bookworm web -p 8080:80\n  cuib launch debian:bookworm web < web.yaml",
		Args:              kit.Needs(0, 2),
		ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := e.create(cmd.Context(), o, args, true)
			if err != nil {
				return err
			}
			e.Say("Launched %s", name)
			e.tellBlocked(cmd.Context(), name)
			if o.console {
				return e.console(cmd.Context(), name, api.InstanceConsolePost{})
			}
			return nil
		},
	}
	o.flags(e, cmd)
	cmd.Flags().BoolVar(&o.console, "console", false, "attach to the console after the start")
	return cmd
}

// create creates an instance and returns its name.
func (e *env) create(ctx context.Context, o createOptions, args []string, start bool) (string, error) {
	req, err := e.createRequest(ctx, o, args)
	if err != nil {
		return "", err
	}
	req.Start = start
	op, err := e.Client().CreateInstance(ctx, req)
	if err != nil {
		return "", err
	}
	name := req.Name
	if name == "" {
		name = op.Made("instances")
	}
	return name, e.WaitFor(ctx, name+": ", op, nil)
}

// createRequest makes a request of flags, arguments and standard input.
func (e *env) createRequest(ctx context.Context, o createOptions, args []string) (api.InstancesPost, error) {
	o.takePorts()
	req := api.InstancesPost{Type: "container"}
	if o.typ != "" && o.typ != "container" {
		return req, errs.Invalidf("type %q: there is only \"container\"", o.typ)
	}
	var err error
	if o.empty {
		req.Source, req.Name, err = emptySource(args)
	} else {
		req.Source, req.Name, err = sourceOf(args)
	}
	if err != nil {
		return req, err
	}
	given := struct {
		api.InstancePut

		Name string `json:"name"` // Of the instance that was shown.
	}{}
	if err := e.PipedYAML(&given); err != nil {
		return req, err
	}
	req.InstancePut = given.InstancePut
	if given.Name != "" {
		maps.DeleteFunc(req.Config, func(key, _ string) bool { return strings.HasPrefix(key, "volatile.") }) // They are that one's alone.
	}
	req.Ephemeral = req.Ephemeral || o.ephemeral
	o.image = req.Source.Alias
	if o.description != "" {
		req.Description = o.description
	}
	return req, e.applyChanges(ctx, e.Client(), o, &req.InstancePut)
}

// emptySource reads the argument NAME of an instance without an image.
func emptySource(args []string) (src api.InstanceSource, name string, err error) {
	if len(args) > 1 {
		return src, "", errs.Invalidf("an empty instance has no image: give only its name")
	}
	if len(args) == 1 {
		name, err = kit.Local(args[0])
	}
	return api.InstanceSource{Type: "none"}, name, err
}

// sourceOf reads the arguments IMAGE and NAME.
func sourceOf(args []string) (src api.InstanceSource, name string, err error) {
	if len(args) == 0 {
		return src, "", errs.Invalidf("no image given: name one, such as debian:bookworm, or say --empty")
	}
	if len(args) == 2 {
		name, err = kit.Local(args[1])
	}
	return imageSource(args[0]), name, err
}

// imageSource returns the source for an image. Whether the text is an alias,
// the beginning of a fingerprint, or what to build is for the daemon to find.
func imageSource(image string) api.InstanceSource {
	return api.InstanceSource{Type: "image", Alias: strings.TrimPrefix(image, "local:")}
}

func (o createOptions) applyConfig(put *api.InstancePut) error {
	if put.Config == nil {
		put.Config = api.ConfigMap{}
	}
	if o.envFile != "" {
		data, err := os.ReadFile(o.envFile)
		if err != nil {
			return err
		}
		vars, err := environmentFile(string(data))
		if err != nil {
			return err
		}
		maps.Copy(put.Config, vars)
	}
	config, err := kit.Pairs(o.config)
	maps.Copy(put.Config, config)
	return err
}

// environmentFile reads KEY=VALUE lines as environment.* keys.
func environmentFile(text string) (api.ConfigMap, error) {
	out := api.ConfigMap{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, errs.Invalidf("environment file: line %q is not of the form KEY=VALUE", line)
		}
		out["environment."+key] = value
	}
	return out, nil
}

// applyDevices puts the flags for network, storage and devices into the
// instance. A device that a profile has is taken over before it is changed,
// because a device of the instance replaces it whole.
func applyDevices(ctx context.Context, c *client.Client, o createOptions, put *api.InstancePut) error {
	changes, err := deviceOptions(o.devices)
	if err != nil {
		return err
	}
	if put.Devices == nil {
		put.Devices = api.DevicesMap{}
	}
	if o.network == networkHost && len(o.publish) > 0 {
		return errs.Invalidf("--publish %s: with --network host there is nothing to publish, as the ports of the instance are the host's own", o.publish[0])
	}
	if err := o.applyPorts(put.Devices); err != nil {
		return err
	}
	if len(changes) == 0 && o.network == "" && o.storage == "" {
		return nil
	}
	profiles, err := o.profilesOf(ctx, c, put)
	if err != nil {
		return err
	}
	inherited, err := profileDevices(ctx, c, profiles)
	if err != nil {
		return err
	}
	applyNetwork(o.network, put.Devices, inherited)
	if o.storage != "" {
		name := rootDevice(inherited)
		if own := rootDevice(put.Devices); put.Devices[own] != nil {
			name = own
		}
		merge(put.Devices, inherited, name, api.ConfigMap{"type": "disk", "path": "/", "pool": o.storage})
	}
	for _, name := range kit.KeysOf(changes) {
		merge(put.Devices, inherited, name, changes[name])
	}
	return nil
}

// What --network has beside networks, as in managers of application containers.
const (
	networkHost = "host" // The host's own network, and no other interface.
	networkNone = "none" // No interface at all.
)

// applyNetwork puts the first interface into a network.
func applyNetwork(network string, own, inherited api.DevicesMap) {
	first := deviceOf(inherited, "nic", "eth0") // Also of a fresh server, which gets it with the instance.
	switch network {
	case "":
	case networkHost, networkNone:
		for _, name := range append(kit.KeysOf(inherited), first) {
			if inherited[name]["type"] == "nic" || name == first {
				own[name] = api.ConfigMap{"type": "none"}
			}
		}
		if network == networkHost {
			own[first] = api.ConfigMap{"type": "nic", "nictype": "host"}
		}
	default:
		own[first] = api.ConfigMap{"type": "nic", "name": first, "network": network}
	}
}

// merge changes a device of an instance, which may begin as an inherited one.
func merge(own, inherited api.DevicesMap, name string, changes api.ConfigMap) {
	if own[name] == nil {
		own[name] = api.ConfigMap{}
		maps.Copy(own[name], inherited[name])
	}
	maps.Copy(own[name], changes)
}

// profilesOf returns the profiles that the instance will have: if nothing is said
// those of its image.
func (o createOptions) profilesOf(ctx context.Context, c *client.Client, put *api.InstancePut) ([]string, error) {
	fresh := []string{"default"}
	if put.Profiles != nil {
		return put.Profiles, nil
	}
	if o.image == "" {
		return fresh, nil
	}
	image, _, err := c.FindImage(ctx, o.image)
	if errs.Is(err, errs.NotFound) || err == nil && len(image.Profiles) == 0 {
		return fresh, nil // It is built, or nobody knows it, which the daemon says.
	}
	return image.Profiles, err
}

// profileDevices returns the devices that profiles give together.
func profileDevices(ctx context.Context, c *client.Client, profiles []string) (api.DevicesMap, error) {
	out := api.DevicesMap{}
	for _, name := range profiles {
		p, _, err := c.Profile(ctx, name)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, p.Devices)
	}
	return out, nil
}

// deviceOf returns the name of the first device of a type, or other.
func deviceOf(devices api.DevicesMap, typ, other string) string {
	for _, name := range kit.KeysOf(devices) {
		if devices[name]["type"] == typ {
			return name
		}
	}
	return other
}

// rootDevice returns the name of the root disk.
func rootDevice(devices api.DevicesMap) string {
	for _, name := range kit.KeysOf(devices) {
		if devices[name]["type"] == "disk" && devices[name]["path"] == "/" {
			return name
		}
	}
	return "root"
}

// deviceOptions parses the values of flags --device: NAME,KEY=VALUE,...
func deviceOptions(args []string) (api.DevicesMap, error) {
	out := api.DevicesMap{}
	for _, a := range args {
		name, rest, ok := strings.Cut(a, ",")
		if !ok || name == "" {
			return nil, errs.Invalidf("device %q is not of the form name,key=value", a)
		}
		if out[name] == nil {
			out[name] = api.ConfigMap{}
		}
		options, err := kit.Pairs(strings.Split(rest, ","))
		if err != nil {
			return nil, err
		}
		maps.Copy(out[name], options)
	}
	return out, nil
}
