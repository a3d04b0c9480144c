package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// How deep directories can be: those at more than maxLevels are not all open
// at the same time, and there are no more than maxDescent.
const (
	maxLevels  = 100
	maxDescent = 1 << 20
)

// errMoved says that a directory is not any more where it was.
var errMoved = errs.Conflictf("a directory was moved while it was looked at")

// A descent goes through what is below a directory, of any depth, and through
// others beside that which have the same directories. It has one of each open
// at a time, and goes up again by "..": what it finds there must be where it
// came from.
type descent struct {
	dirs []*os.File // Where it is; the first is the one that is read.

	// entry is called with each name. It reports whether that is a directory
	// that all of dirs have, into which it is to go.
	entry func(dirs []*os.File, name string) (enter bool, err error)

	// left is called when all of a directory was looked at, if it is not nil.
	left func(dirs []*os.File) error

	at     []byte // The path below where it began.
	levels []level
}

// A level is one of the directories that a descent is in.
type level struct {
	names []string // Those that it still has to look at.
	at    int      // How long its path is.
	ids   [2]inode // Of its directories.
}

// run looks at all below the directories, which stay open.
func (d *descent) run(ctx context.Context) error {
	began := slices.Clone(d.dirs)
	defer func() { d.become(began, began) }()
	if err := d.arrive(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		top := &d.levels[len(d.levels)-1]
		if len(top.names) == 0 {
			if len(d.levels) == 1 {
				return nil
			}
			if err := d.up(began); err != nil {
				return err
			}
			continue
		}
		name := top.names[len(top.names)-1]
		top.names = top.names[:len(top.names)-1]
		enter, err := d.entry(d.dirs, name)
		if err == nil && enter {
			err = d.down(began, name)
		}
		if err != nil {
			return err
		}
	}
}

// arrive notes the directory that it is in now, and what that has.
func (d *descent) arrive() error {
	if len(d.levels) == maxDescent {
		return errs.Newf(errs.Unsupported, "there are more than %d directories within each other", maxDescent)
	}
	l := level{at: len(d.at)}
	for i, dir := range d.dirs {
		id, err := inodeOf(dir)
		if err != nil {
			return err
		}
		l.ids[i] = id
	}
	names, err := d.dirs[0].Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	l.names = names
	d.levels = append(d.levels, l)
	return nil
}

// down goes into a directory.
func (d *descent) down(began []*os.File, name string) error {
	next, err := d.open(name)
	if err != nil {
		return err
	}
	d.become(next, began)
	d.at = append(append(d.at, '/'), name...)
	return d.arrive()
}

// up goes back to the directory above.
func (d *descent) up(began []*os.File) error {
	if d.left != nil {
		if err := d.left(d.dirs); err != nil {
			return err
		}
	}
	d.levels = d.levels[:len(d.levels)-1]
	top := d.levels[len(d.levels)-1]
	d.at = d.at[:top.at]
	next, err := d.open("..")
	if err != nil {
		return err
	}
	d.become(next, began)
	for i, dir := range d.dirs {
		if id, err := inodeOf(dir); err != nil || id != top.ids[i] {
			return errors.Join(err, errMoved)
		}
	}
	return nil
}

// open opens the directories of a name in those where it is.
func (d *descent) open(name string) ([]*os.File, error) {
	var next []*os.File
	for _, dir := range d.dirs {
		sub, err := openDir(int(dir.Fd()), name)
		if err != nil {
			closeAll(next, nil)
			return nil, err
		}
		next = append(next, sub)
	}
	return next, nil
}

// become is somewhere else from now on, and closes where it was unless that is
// where it began.
func (d *descent) become(next, began []*os.File) {
	closeAll(d.dirs, began)
	d.dirs = next
}

func closeAll(all, but []*os.File) {
	for _, f := range all {
		if !slices.Contains(but, f) {
			_ = f.Close() // Nothing was written.
		}
	}
}

func inodeOf(f *os.File) (inode, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return inode{st.Dev, st.Ino}, err
}
