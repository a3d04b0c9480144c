// Package cni runs network plugins of the Container Network Interface.
//
// A network is a configuration, or a list of them, that the host's
// administrator has put into a directory, and is known by its name. [Plugins]
// runs its plugins, as root of the host, for one interface of one instance:
// [Plugins.Add] when it gets the interface, [Plugins.Check] while it has it,
// [Plugins.Del] when it loses it. What has been added is on record, with the
// configuration as it was, from before the first plugin runs until the last
// has taken back what it did.
//
// The protocol: https://github.com/containernetworking/cni/blob/main/SPEC.md
package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/cuib/cuib/shared/errs"
)

// Where distributions have configurations and plugins.
const (
	ConfigDir  = "/etc/cni/net.d"
	PluginDirs = "/usr/lib/cni:/opt/cni/bin"
)

// pluginTime is how long the plugins of one network have for all they do.
const pluginTime = 2 * time.Minute

// Dirs are the directories that the administrator has chosen.
type Dirs struct {
	Config  string
	Plugins []string
}

// Plugins runs plugins. Its methods are safe for concurrent use for different
// interfaces.
type Plugins struct {
	Dir  string // Of the records.
	Dirs func(ctx context.Context) (Dirs, error)
}

// An Attachment is an interface of an instance on a network.
type Attachment struct {
	Instance  string
	Network   string       // As the configuration calls it.
	Interface string       // Inside.
	MAC       string       // Empty for one that the plugins choose.
	Addresses []netip.Addr // Likewise.
	Ports     []Port
}

// Port is a port of the host that is to lead to the instance.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"` // Empty for all addresses.
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp or udp.
}

// record is what is to be deleted.
type record struct {
	Attachment

	List    json.RawMessage
	Plugins []string
}

// Add runs the plugins for an interface in the network namespace at a path. If
// one fails, those before it take back what they did.
func (p *Plugins) Add(ctx context.Context, a Attachment, netns string) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	if err := p.Del(ctx, a, netns); err != nil { // Of a start that a crash has cut short.
		return nil, err
	}
	list, dirs, err := p.find(ctx, a)
	if err != nil {
		return nil, err
	}
	place, err := p.place(a.Instance, netns)
	if err == nil {
		err = p.write(record{a, list.Bytes, dirs.Plugins})
	}
	if err != nil {
		return nil, err
	}
	c := p.run(dirs.Plugins)
	result, err := c.add(ctx, list, p.conf(a, list, place))
	if err == nil {
		return result, nil
	}
	err = c.explain(a, err)
	undo, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), pluginTime)
	defer cancelUndo()
	if derr := p.Del(undo, a, netns); derr != nil {
		err = errs.Newf(errs.KindOf(err), "%w; then: %w", err, derr)
	}
	return nil, err
}

// Del takes an interface away, and all that the plugins have made for it. It
// does nothing if there is none. An empty path is for a namespace that is
// gone.
func (p *Plugins) Del(ctx context.Context, a Attachment, netns string) error {
	rec, err := p.read(a.Instance, a.Interface)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.del(ctx, rec, netns)
}

func (p *Plugins) del(ctx context.Context, rec record, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	list, err := libcni.ConfListFromBytes(rec.List)
	if err != nil {
		return fmt.Errorf("CNI configuration %q on record: %w", rec.Network, err)
	}
	place, err := p.place(rec.Instance, netns)
	if err != nil {
		return err
	}
	c := p.run(rec.Plugins)
	if err := c.DelNetworkList(ctx, list, p.conf(rec.Attachment, list, place)); err != nil {
		return c.explain(rec.Attachment, err)
	}
	return p.forget(rec)
}

// Check reports what the plugins find wrong with an interface.
func (p *Plugins) Check(ctx context.Context, a Attachment, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	rec, list, err := p.recorded(a)
	if err != nil {
		return err
	}
	place, err := p.place(a.Instance, netns)
	if err != nil {
		return err
	}
	c := p.run(rec.Plugins)
	err = c.CheckNetworkList(ctx, list, p.conf(rec.Attachment, list, place))
	if errors.Is(err, libcni.ErrorCheckNotSupp) {
		return errs.Newf(errs.Unsupported, "CNI configuration %q is of version %s, and can be checked from 0.4.0 on", a.Network, list.CNIVersion)
	}
	if err != nil {
		return c.explain(a, err)
	}
	return nil
}

// Result returns what the plugins have made of an interface.
func (p *Plugins) Result(a Attachment) (*Result, error) {
	rec, list, err := p.recorded(a)
	if err != nil {
		return nil, err
	}
	got, err := p.run(rec.Plugins).GetNetworkListCachedResult(list, p.conf(rec.Attachment, list, ""))
	if err != nil || got == nil {
		return nil, errs.NotFoundf("CNI configuration %q has no result for %s of instance %q", a.Network, a.Interface, a.Instance)
	}
	return newResult(got)
}

func (p *Plugins) recorded(a Attachment) (record, *libcni.NetworkConfigList, error) {
	rec, err := p.read(a.Instance, a.Interface)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil, errs.NotFoundf("instance %q has no interface %q of a CNI configuration", a.Instance, a.Interface)
	}
	if err != nil {
		return rec, nil, err
	}
	list, err := libcni.ConfListFromBytes(rec.List)
	return rec, list, err
}

// Settle deletes what is on record of instances that do not run.
func (p *Plugins) Settle(ctx context.Context, runs func(instance string) bool) error {
	entries, err := os.ReadDir(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	failed := []error{err}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != recordSuffix {
			continue
		}
		rec, err := readRecord(filepath.Join(p.Dir, e.Name()))
		if err == nil && !runs(rec.Instance) {
			err = p.del(ctx, rec, "")
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// runner runs the plugins of one network, and keeps what they say beside their
// answers.
type runner struct {
	*libcni.CNIConfig

	said *said
}

func (p *Plugins) run(dirs []string) runner {
	out := &said{}
	exec := &struct {
		*invoke.RawExec
		version.PluginDecoder
	}{RawExec: &invoke.RawExec{Stderr: out}}
	return runner{libcni.NewCNIConfigWithCacheDir(dirs, p.Dir, exec), out}
}

// add runs one plugin after the other. What there is of the result is kept after
// each of them, not after the last only as libcni alone has it: some do not take
// back what they did without.
func (r runner) add(ctx context.Context, list *libcni.NetworkConfigList, conf *libcni.RuntimeConf) (*Result, error) {
	var got types.Result
	for _, plugin := range list.Plugins {
		one := *list
		if got != nil {
			var err error
			if plugin, err = libcni.InjectConf(plugin, map[string]any{"prevResult": got}); err != nil {
				return nil, err
			}
		}
		one.Plugins = []*libcni.NetworkConfig{plugin}
		var err error
		if got, err = r.AddNetworkList(ctx, &one, conf); err != nil {
			return nil, err
		}
	}
	return newResult(got)
}

// explain makes an error of all that a plugin says.
func (r runner) explain(a Attachment, err error) error {
	kind := errs.Internal
	if e, ok := errors.AsType[*types.Error](err); ok && e.Code != 0 {
		kind = errs.Invalid // The plugin has said why.
		err = fmt.Errorf("%w (code %d)", err, e.Code)
	}
	if text := r.said.text(); text != "" {
		err = fmt.Errorf("%w; it also says: %s", err, text)
	}
	return errs.Newf(kind, "CNI configuration %q: %w", a.Network, err)
}

// said collects what plugins write beside their answers, up to some length.
type said struct {
	mu  sync.Mutex
	all []byte
}

func (s *said) Write(b []byte) (int, error) {
	const enough = 16 << 10
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, b[:min(len(b), enough-len(s.all))]...)
	return len(b), nil
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(string(s.all))
}

// conf is what the plugins are told of an interface. They see only what their
// configuration asks for.
func (p *Plugins) conf(a Attachment, list *libcni.NetworkConfigList, netns string) *libcni.RuntimeConf {
	args := map[string]any{}
	for capability, v := range a.arguments() {
		if can(list, capability) {
			args[capability] = v
		}
	}
	return &libcni.RuntimeConf{ContainerID: p.id(a.Instance), NetNS: netns, IfName: a.Interface, CapabilityArgs: args}
}

// arguments are those that an interface has, by the capability that a plugin
// must have for it.
func (a Attachment) arguments() map[string]any {
	out := map[string]any{}
	if a.MAC != "" {
		out["mac"] = a.MAC
	}
	if len(a.Addresses) > 0 {
		out["ips"] = a.Addresses
	}
	if len(a.Ports) > 0 {
		out["portMappings"] = a.Ports
	}
	return out
}

func can(list *libcni.NetworkConfigList, capability string) bool {
	return slices.ContainsFunc(list.Plugins, func(c *libcni.NetworkConfig) bool { return c.Network.Capabilities[capability] })
}

// id is how plugins know an instance. They have one store a host, so that it
// is another for another daemon.
func (p *Plugins) id(instance string) string {
	sum := sha256.Sum256([]byte(p.Dir))
	return instance + "-" + hex.EncodeToString(sum[:4])
}
