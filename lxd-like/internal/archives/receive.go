package archives

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// CheckDriver reports why the backup cannot be brought into a pool: one that
// is optimized needs a driver with the same streams.
func (a *Archive) CheckDriver(d storage.Driver) error {
	if !a.Optimized {
		return nil
	}
	_, err := a.streamer(d)
	return err
}

func (a *Archive) streamer(d storage.Driver) (storage.Streamer, error) {
	s, ok := d.(storage.Streamer)
	if !ok || s.Format() != a.Backend {
		return nil, errs.Invalidf("the backup is optimized for storage driver %q: choose a pool of that driver, or export it without optimized storage",
			a.Backend)
	}
	return s, nil
}

// receive makes a volume of the driver's streams.
func (a *Archive) receive(ctx context.Context, d storage.Driver, v storage.Volume) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	s, err := a.streamer(d)
	if err != nil {
		return err
	}
	to, err := s.Receive(ctx, v)
	if err != nil {
		return err
	}
	u.Push("remove what was received", to.Abort)

	if err := a.receiveAll(ctx, to); err != nil {
		return err
	}
	if err := to.Commit(ctx); err != nil {
		return err
	}
	u.Push("delete the volume", func(ctx context.Context) error { return deleteAll(ctx, d, v, a.Snapshots) })
	if a.Kind == storage.Custom {
		return nil
	}
	return a.checkReceived(ctx, d, v)
}

func deleteAll(ctx context.Context, d storage.Driver, v storage.Volume, snapshots []string) error {
	err := d.Unmount(ctx, v)
	for i := range snapshots {
		snapshot := v
		snapshot.Snapshot = snapshots[len(snapshots)-1-i]
		err = errors.Join(err, d.Delete(ctx, snapshot))
	}
	return errors.Join(err, d.Delete(ctx, v))
}

// receiveAll reads the streams, which are in the order of the index.
func (a *Archive) receiveAll(ctx context.Context, to storage.Receiver) error {
	want := append(slices.Clone(a.Snapshots), "")
	base := ""
	for {
		name, h, err := a.r.Next()
		switch {
		case errors.Is(err, io.EOF) && len(want) > 0:
			return errs.Invalidf("bad backup: %s, which its index names, is not in it", a.place(want[0])+a.suffix())
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case name == headerName:
			text, err := a.text(h)
			if err == nil {
				err = checkHeader(text)
			}
			if err != nil {
				return err
			}
			continue
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case len(want) == 0 || name != a.place(want[0])+a.suffix() || h.Typeflag != tar.TypeReg:
			return errs.Invalidf("bad backup: it holds %q, which its index does not name, or not there", name)
		}
		if err := to.Next(ctx, a.r, want[0], base); err != nil {
			return fmt.Errorf("receive %q: %w", name, err)
		}
		base, want = want[0], want[1:]
	}
}

// checkReceived checks, in each state, that what the daemon itself reads and
// writes of an instance's volume is not a link to something else.
func (a *Archive) checkReceived(ctx context.Context, d storage.Driver, v storage.Volume) error {
	for _, name := range append(slices.Clone(a.Snapshots), "") {
		v.Snapshot = name
		dir, err := d.Mount(ctx, v, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(checkOwnFiles(dir), d.Unmount(context.WithoutCancel(ctx), v)); err != nil {
			return err
		}
	}
	return nil
}

func checkOwnFiles(dir string) error {
	for name, want := range map[string]uint32{rootfsDir: unix.S_IFDIR, templatesDir: unix.S_IFDIR, metadataFile: unix.S_IFREG} {
		var st unix.Stat_t
		err := unix.Lstat(filepath.Join(dir, name), &st)
		if errors.Is(err, unix.ENOENT) && name != rootfsDir {
			continue
		}
		if err != nil {
			return errs.Newf(errs.Invalid, "bad backup: %w", os.NewSyscallError("lstat "+name, err))
		}
		if st.Mode&unix.S_IFMT != want {
			return errs.Invalidf("bad backup: %q is of a type that it cannot be", name)
		}
	}
	return nil
}
