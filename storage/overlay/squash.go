package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage/internal/tree"
)

// squashed is the file that says of a layer that it was made of others.
const squashed = "squashed"

// minSquash is how many layers are worth to be made one of. If there are less
// above the last that was made so, those are made one of too.
const minSquash = maxDepth / 3

// errRenamed is that of layers in which a directory was renamed: what is in it
// is then below under another name.
var errRenamed = errors.New("a directory was renamed")

// squash fills the staged layer flat with what a state has on top of one of
// its layers, which it returns: so that what most of a volume is stays shared,
// such as its image. If it cannot do that it returns none, and flat is empty.
func (d *driver) squash(ctx context.Context, flat, state string, ids []string) (bottom string, err error) {
	n, err := d.upperMost(ids)
	if err != nil {
		return "", err
	}
	dirs := []string{filepath.Join(state, upper)}
	for _, id := range ids[:n] {
		dirs = append(dirs, filepath.Join(d.layer(id), upper))
	}
	s := squasher{ctx: ctx, links: map[[2]uint64]string{}}
	dst := filepath.Join(flat, upper)
	err = s.dir(dst, dirs)
	if errors.Is(err, errRenamed) {
		return "", tree.Remove(dst)
	}
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(flat, squashed), nil, 0o600); err != nil {
		return "", err
	}
	return ids[n], setTop(flat, ids[n])
}

// upperMost returns how many of some layers, the uppermost first, to make one
// of.
func (d *driver) upperMost(ids []string) (int, error) {
	for n, id := range ids {
		_, err := os.Lstat(filepath.Join(d.layer(id), squashed))
		switch {
		case err == nil && n >= minSquash:
			return n, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return 0, err
		case err == nil:
			return len(ids) - 1, nil
		}
	}
	return len(ids) - 1, nil
}

// A squasher makes one directory of several that are stacked.
type squasher struct {
	ctx   context.Context      //nolint:containedctx // It lives no longer than the call that it is made for.
	links map[[2]uint64]string // Where a file with several names is.

	// Of the directory that it is in nothing shows through from below.
	closed bool
}

// dir makes dst of directories, the uppermost first.
func (s squasher) dir(dst string, dirs []string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	done := map[string]bool{}
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if done[e.Name()] {
				continue
			}
			done[e.Name()] = true
			if err := s.entry(filepath.Join(dst, e.Name()), e, dirs[i:]); err != nil {
				return err
			}
		}
	}
	return tree.CopyAttrs(dst, dirs[0])
}

// entry makes what the first of some directories has.
func (s squasher) entry(dst string, e fs.DirEntry, dirs []string) error {
	src := filepath.Join(dirs[0], e.Name())
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "stat", Path: src, Err: err}
	}
	switch {
	case isWhiteout(&st):
		if s.closed {
			return nil
		}
		return tree.CopyFile(dst, src)
	case e.IsDir():
		return s.sub(dst, e.Name(), dirs)
	case st.Nlink == 1:
		return tree.CopyFile(dst, src)
	}
	id := [2]uint64{st.Dev, st.Ino}
	if first, ok := s.links[id]; ok {
		return os.Link(first, dst)
	}
	s.links[id] = dst
	return tree.CopyFile(dst, src)
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// sub makes a directory that the first of some directories has.
func (s squasher) sub(dst, name string, dirs []string) error {
	var subs []string
	ends := false // Nothing below the last of subs shows through.
	for _, dir := range dirs {
		at := filepath.Join(dir, name)
		var st unix.Stat_t
		err := unix.Lstat(at, &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "stat", Path: at, Err: err}
		}
		if ends = st.Mode&unix.S_IFMT != unix.S_IFDIR; ends {
			break
		}
		subs = append(subs, at)
		if ends, err = isOpaque(at); err != nil {
			return err
		}
		if ends {
			break
		}
	}
	s.closed = s.closed || ends
	if err := s.dir(dst, subs); err != nil || !ends {
		return err
	}
	err := unix.Lsetxattr(dst, opaqueAttr, []byte("y"), 0)
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", opaqueAttr, dst, err)
	}
	return nil
}

// isOpaque reports whether a directory hides what is below.
func isOpaque(dir string) (bool, error) {
	attrs, err := tree.Xattrs(dir)
	if err != nil {
		return false, err
	}
	value, opaque := attrs[opaqueAttr]
	if _, renamed := attrs[redirectAttr]; renamed || opaque && value != "y" {
		return false, errRenamed
	}
	return opaque, nil
}
