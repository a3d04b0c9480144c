package instances

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A tpmKeeper is what instances need of [tpm.Service].
type tpmKeeper interface {
	// Check reports what the host lacks to have TPMs.
	Check(ctx context.Context) error
	Start(ctx context.Context, of tpm.Owner, st tpm.State) (tpm.Nodes, error)
	Stop(of tpm.Owner) error
	// End ends all TPMs of an instance that has ended.
	End(instance string) error
	// Recover takes over the TPMs of an instance that runs, and returns which
	// of its devices have one.
	Recover(instance string, wants func(device string) bool) (map[string]bool, error)
	// Settle ends what is left of those of others.
	Settle(runs func(instance string) bool) error
}

// tpmState is where a TPM keeps what it holds, in the volume beside rootfs: a
// snapshot, a copy and an archive have it too, and the guest cannot see it.
const tpmState = "tpm."

// checkTPM reports what the host lacks to have TPMs.
func (s *Service) checkTPM(ctx context.Context) error {
	if s.TPMs == nil {
		return errs.Newf(errs.Unsupported, "this server has no TPMs")
	}
	return s.TPMs.Check(ctx)
}

// startTPMs starts the TPMs of an instance that is about to start.
func (s *Service) startTPMs(ctx context.Context, l *launch, u *undo.Stack) error {
	for _, name := range slices.Sorted(maps.Keys(l.plan)) {
		p := l.plan[name]
		if p.TPM == (tpm.Rule{}) {
			continue
		}
		of := owner{l.in.Name, name}
		nodes, err := s.startTPM(ctx, of, p.TPM, guestDir{l.dir, l.ids})
		if err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
		u.Push("end the TPM", func(context.Context) error { return s.TPMs.Stop(tpm.Owner{Instance: of.instance, Device: of.device}) })
		p.Nodes = nodes
		l.plan[name] = p
	}
	return nil
}

// guestDir is the directory of a mounted volume, and the ids it shows.
type guestDir struct {
	dir string
	ids idmap.Map
}

// startTPM starts a TPM, and returns its nodes.
func (s *Service) startTPM(ctx context.Context, of owner, r tpm.Rule, volume guestDir) ([]runtime.Node, error) {
	if err := s.checkTPM(ctx); err != nil {
		return nil, err
	}
	st, err := volume.state(tpmState + of.device)
	if err != nil {
		return nil, fmt.Errorf("the state of the TPM: %w", err)
	}
	defer st.Dir.Close()
	n, err := s.TPMs.Start(ctx, tpm.Owner{Instance: of.instance, Device: of.device}, st)
	if err != nil {
		return nil, err
	}
	const mode = 0o660
	return []runtime.Node{
		{Device: of.device, Major: n.Device.Major, Minor: n.Device.Minor, Path: r.Path, Mode: mode},
		{Device: of.device, Major: n.Manager.Major, Minor: n.Manager.Minor, Path: r.Manager, Mode: mode},
	}, nil
}

// state opens a directory of the volume, which is the guest's root's, and makes
// it if it is not there. Whatever came with an archive, no link is followed.
func (g guestDir) state(name string) (st tpm.State, err error) {
	volume, err := os.Open(g.dir)
	if err != nil {
		return st, err
	}
	files := guestfs.New(volume, g.ids, nil)
	defer files.Close()
	if _, err := files.Stat(name); errs.Is(err, errs.NotFound) {
		const mode = 0o700
		err = files.Mkdir(name, guestfs.File{Mode: mode})
		if err != nil {
			return st, err
		}
	}
	how := unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(volume.Fd()), name, &how)
	if err != nil {
		return st, &os.PathError{Op: "open", Path: name, Err: err}
	}
	st.Dir = os.NewFile(uintptr(fd), name)
	if g.ids == nil {
		return st, nil
	}
	user, ok := g.ids.ToHost(idmap.User, 0)
	group, ok2 := g.ids.ToHost(idmap.Group, 0)
	if !ok || !ok2 {
		return st, errors.Join(errs.Invalidf("the instance has no root: no id of the host is its 0"), st.Dir.Close())
	}
	st.User, st.Group = uint32(user), uint32(group) //nolint:gosec // Ids have 32 bits.
	return st, nil
}

// keepTPMs copies what TPMs hold from the volume of an instance that does not
// run to the one that takes its place.
func keepTPMs(ctx context.Context, d storage.Driver, from, to storage.Volume) (err error) {
	source, err := d.Mount(ctx, from, nil) // As they are stored.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Unmount(context.WithoutCancel(ctx), from)) }()
	held, err := filepath.Glob(filepath.Join(source, tpmState+"*"))
	if err != nil || len(held) == 0 {
		return err
	}
	target, err := d.Mount(ctx, to, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Unmount(context.WithoutCancel(ctx), to)) }()
	var packed bytes.Buffer // They are a few KiB, and nobody else writes there.
	p := archive.NewPacker(ctx, &packed)
	for _, dir := range held {
		if err := p.Tree(dir, filepath.Base(dir)); err != nil {
			return err
		}
	}
	if err := p.Close(); err != nil {
		return err
	}
	return archive.Extract(ctx, &packed, archive.Root{Dir: target})
}

// tpmPart is a TPM that a running instance can be given, and lose.
func (s *Service) tpmPart(of owner, p devices.Plan) part {
	return part{
		add:    func(ctx context.Context) error { return s.addTPM(ctx, of, p.TPM) },
		remove: func(ctx context.Context) error { return s.removeTPM(ctx, of) },
	}
}

// addTPM gives a running instance, whose lock is held, a TPM.
func (s *Service) addTPM(ctx context.Context, of owner, r tpm.Rule) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	a := s.index.get(of.instance)
	if a == nil {
		return errs.Conflictf("instance %q is not running", of.instance)
	}
	d, err := s.Pools.Driver(ctx, a.pool)
	if err != nil {
		return err
	}
	dir, err := d.Mount(ctx, a.volume, a.ids) // It is mounted so already.
	if err != nil {
		return err
	}
	nodes, err := s.startTPM(ctx, of, r, guestDir{dir, a.ids})
	if err != nil {
		return err
	}
	u.Push("end the TPM", func(context.Context) error { return s.TPMs.Stop(tpm.Owner{Instance: of.instance, Device: of.device}) })
	for _, n := range nodes {
		one := s.nodePart(of.instance, n)
		if err := one.add(ctx); err != nil {
			return err
		}
		u.Push("remove its node", one.remove)
	}
	return nil
}

// removeTPM takes a TPM from a running instance. What it holds stays in the
// volume.
func (s *Service) removeTPM(ctx context.Context, of owner) error {
	given, err := s.Runtime.Given(of.instance)
	if err != nil {
		return err
	}
	for _, n := range given.Nodes {
		if n.Device != of.device {
			continue
		}
		if err := s.nodePart(of.instance, n).remove(ctx); err != nil {
			return err
		}
	}
	return s.TPMs.Stop(tpm.Owner{Instance: of.instance, Device: of.device})
}

// endTPMs ends the TPMs of an instance that has ended.
func (s *Service) endTPMs(name string) error {
	if s.TPMs == nil {
		return nil
	}
	return s.TPMs.End(name)
}

// recoverTPMs takes over the TPMs of a running instance, whose lock is held.
func (s *Service) recoverTPMs(ctx context.Context, in *instance) {
	if s.TPMs == nil {
		return
	}
	have, err := s.TPMs.Recover(in.Name, func(device string) bool { return in.expanded.Devices[device]["type"] == "tpm" })
	if err != nil {
		s.Logger.ErrorContext(ctx, "something is left of TPMs", "instance", in.Name, "err", err)
	}
	for name, dev := range in.expanded.Devices {
		if dev["type"] == "tpm" && !have[name] {
			s.renewTPM(ctx, owner{in.Name, name}, devices.Recall(ctx, name, dev, s.env(in)).TPM)
		}
	}
}

// renewTPM gives a running instance, whose lock is held, a TPM in the place of
// one that has ended by itself.
func (s *Service) renewTPM(ctx context.Context, of owner, r tpm.Rule) {
	err := s.removeTPM(ctx, of)
	if err == nil {
		err = s.addTPM(ctx, of, r)
	}
	if err != nil {
		s.Logger.ErrorContext(ctx, "an instance is without a TPM", "instance", of.instance, "device", of.device, "err", err)
	}
}

// tpmPause is how long the service waits before it starts a TPM again.
const tpmPause = time.Second

// TPMLost is for a TPM that has ended by itself: another takes its place, with
// what it held.
func (s *Service) TPMLost(ctx context.Context, of tpm.Owner) {
	s.Logger.WarnContext(ctx, "a TPM has ended by itself", "instance", of.Instance, "device", of.Device)
	select {
	case <-ctx.Done():
		return
	case <-time.After(tpmPause):
	}
	unlock := s.locks.Lock(of.Instance)
	defer unlock()
	in, err := s.load(ctx, of.Instance)
	if err != nil || s.index.get(of.Instance) == nil || in.expanded.Devices[of.Device]["type"] != "tpm" {
		return
	}
	s.renewTPM(ctx, owner{of.Instance, of.Device}, devices.Recall(ctx, of.Device, in.expanded.Devices[of.Device], s.env(in)).TPM)
}

// settleTPMs ends what is left of TPMs of instances that do not run.
func (s *Service) settleTPMs(ctx context.Context) {
	if s.TPMs == nil {
		return
	}
	if err := s.TPMs.Settle(func(name string) bool { return s.index.get(name) != nil }); err != nil {
		s.Logger.ErrorContext(ctx, "TPMs of instances that have ended are left", "err", err)
	}
}
