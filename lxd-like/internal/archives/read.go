package archives

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// An Archive is a backup that is being read. What is in it comes from
// strangers.
type Archive struct {
	Index

	r *archive.Reader
}

// Open reads the index of a backup, which ends with ctx. The caller closes it.
func Open(ctx context.Context, r io.Reader) (*Archive, error) {
	in, err := archive.NewReader(ctx, r)
	if err != nil {
		return nil, err
	}
	a := &Archive{r: in}
	if err := a.readIndex(); err != nil {
		in.Close()
		return nil, err
	}
	return a, nil
}

// Close ends the reading.
func (a *Archive) Close() { a.r.Close() }

func (a *Archive) readIndex() error {
	for {
		name, h, err := a.r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return errs.Invalidf("it is no backup: it has no %s", indexName)
		case err != nil:
			return err
		case name == "." || name == "backup" || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case name != indexName:
			return errs.Invalidf("it is no backup: it begins with %q instead of %s", name, indexName)
		}
		text, err := a.text(h)
		if err != nil {
			return err
		}
		a.Index, err = parseIndex(text)
		return err
	}
}

// text reads the entry as one of those that are kept in memory.
func (a *Archive) text(h *tar.Header) ([]byte, error) {
	if h.Typeflag != tar.TypeReg {
		return nil, errs.Invalidf("bad backup: %s is no regular file", h.Name)
	}
	if h.Size > maxIndex {
		return nil, errs.Invalidf("bad backup: %s has %d bytes, of %d that it can have", h.Name, h.Size, maxIndex)
	}
	text, err := io.ReadAll(a.r)
	if err != nil {
		return nil, errs.Newf(errs.Invalid, "bad backup: %s: %w", h.Name, err)
	}
	return text, nil
}

// Unpack makes the volume v, which does not exist, and its snapshots. What it
// makes and fails, it removes. If limit is not 0 the volume is limited to so
// many bytes before anything is in it, where the pool can do that.
func (a *Archive) Unpack(ctx context.Context, d storage.Driver, v storage.Volume, limit int64) error {
	if a.Optimized {
		return a.receive(ctx, d, v)
	}
	return a.unpack(ctx, d, v, limit)
}

// unpack makes a volume of files: each state of what the one before has.
func (a *Archive) unpack(ctx context.Context, d storage.Driver, v storage.Volume, limit int64) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := d.Create(ctx, v); err != nil {
		return err
	}
	un := &unpacker{Archive: a, ctx: ctx, driver: d, volume: v, done: map[string]bool{}}
	u.Push("delete the volume", un.undo)
	if limit > 0 {
		if l, ok := d.(storage.Limiter); ok {
			if err := l.Limit(ctx, v, limit); err != nil && !errs.Is(err, errs.Unsupported) {
				return err
			}
		}
	}
	if un.dir, err = d.Mount(ctx, v, nil); err != nil {
		return err
	}
	if err := un.all(); err != nil {
		return err
	}
	if err := syncFS(un.dir); err != nil {
		return err
	}
	return d.Unmount(ctx, v)
}

// syncFS brings all that was written to the file system of dir to the disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

// An unpacker unpacks the files of one backup.
type unpacker struct {
	*Archive

	ctx    context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	driver storage.Driver
	volume storage.Volume
	dir    string

	x     *archive.Extractor // Of the state that is unpacked now, if not nil.
	state string             // Its snapshot's name; empty for the volume itself.
	done  map[string]bool    // The states that were unpacked.
}

func (u *unpacker) undo(ctx context.Context) error {
	err := u.driver.Unmount(ctx, u.volume)
	for _, name := range slices.Backward(u.Snapshots) {
		if !u.done[name] {
			continue
		}
		snapshot := u.volume
		snapshot.Snapshot = name
		err = errors.Join(err, u.driver.Delete(ctx, snapshot))
	}
	return errors.Join(err, u.driver.Delete(ctx, u.volume))
}

// all unpacks all entries.
func (u *unpacker) all() error {
	defer u.leave()
	for {
		name, h, err := u.r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(name, h)
		}
		if err != nil {
			return err
		}
	}
	if err := u.end(); err != nil {
		return err
	}
	return u.complete(u.done)
}

// complete checks that all that the index names was there.
func (a *Archive) complete(done map[string]bool) error {
	for _, name := range append(slices.Clone(a.Snapshots), "") {
		if !done[name] {
			return errs.Invalidf("bad backup: %s, which its index names, is not in it", a.place(name)+a.suffix())
		}
	}
	return nil
}

func (u *unpacker) leave() {
	if u.x != nil {
		u.x.Close()
		u.x = nil
	}
}

// where finds which state an entry belongs to, and where in it.
func (u *unpacker) where(name string) (state, rest string, ok bool) {
	if rest, ok := below(name, u.place("")+u.suffix()); ok {
		return "", rest, true
	}
	prefix := u.place("x")
	inside, ok := strings.CutPrefix(name, prefix[:len(prefix)-1])
	if !ok {
		return "", "", false
	}
	state, rest, slash := strings.Cut(inside, "/")
	if !slash {
		rest = "."
	}
	state, ok = strings.CutSuffix(state, u.suffix())
	return state, rest, ok && slices.Contains(u.Snapshots, state)
}

// below returns the path of name from the directory dir.
func below(name, dir string) (rest string, ok bool) {
	if name == dir {
		return ".", true
	}
	return strings.CutPrefix(name, dir+"/")
}

// entry unpacks one entry.
func (u *unpacker) entry(name string, h *tar.Header) error {
	state, rest, ok := u.where(name)
	if !ok {
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			return nil // Such as "backup" itself.
		}
		return errs.Invalidf("bad backup: it holds %q, which its index does not name", name)
	}
	if u.x == nil || state != u.state {
		if err := u.begin(state); err != nil {
			return err
		}
	}
	if u.Kind == storage.Instance {
		if skip, err := checkOwn(rest, h); skip || err != nil {
			return err
		}
	}
	if u.iso() && (rest != "." || h.Typeflag != tar.TypeReg) {
		return errs.Invalidf("bad backup: %q is no image", name)
	}
	return u.x.Entry(name, h, u.r)
}

// checkOwn checks an entry of an instance's volume: what is not in its root
// the daemon itself reads. There may be more, such as the document, which the
// index has too, or what a file system has of its own.
func checkOwn(rest string, h *tar.Header) (skip bool, err error) {
	top, below, _ := strings.Cut(rest, "/")
	if strings.HasPrefix(top, tpmPrefix) {
		return ofTPM(below, h), nil
	}
	switch {
	case top == rootfsDir && (rest != rootfsDir || h.Typeflag == tar.TypeDir):
		return false, nil
	case rest == metadataFile && h.Typeflag == tar.TypeReg,
		top == templatesDir && rest != templatesDir && h.Typeflag == tar.TypeReg,
		top == templatesDir && h.Typeflag == tar.TypeDir:
		return false, nil
	case top == rootfsDir, top == metadataFile, top == templatesDir:
		return false, errs.Invalidf("bad backup: %q is of a type that it cannot be", rest)
	}
	return true, nil
}

// ofTPM makes an entry of what a TPM holds what the program that reads it
// takes: a file, or the one directory that they are in, of the instance's root.
// All else is to be left out, such as a socket of who wrote the archive.
func ofTPM(file string, h *tar.Header) (skip bool) {
	if isDir := h.Typeflag == tar.TypeDir; isDir != (file == "") || !isDir && h.Typeflag != tar.TypeReg || strings.Contains(file, "/") {
		return true
	}
	h.Uid, h.Gid, h.PAXRecords = 0, 0, nil
	h.Mode &= 0o700
	return false
}

// begin begins a state.
func (u *unpacker) begin(state string) error {
	if err := u.end(); err != nil {
		return err
	}
	if u.done[state] {
		return errs.Invalidf("bad backup: the files of %s are not all in one place", u.place(state))
	}
	if u.done[""] {
		return errs.Invalidf("bad backup: snapshot %q comes after what it is a snapshot of", state)
	}
	roots, err := u.roots(state)
	if err != nil {
		return err
	}
	u.state = state
	u.x, err = archive.NewExtractor(u.ctx, roots...)
	return err
}

// roots are where the entries of a state go.
func (u *unpacker) roots(state string) ([]archive.Root, error) {
	update := len(u.done) > 0
	at := u.place(state) + u.suffix()
	if u.iso() {
		place := func(string) string { return isoFile }
		return []archive.Root{{Dir: u.dir, Place: place, Update: update}}, nil
	}
	if u.Kind == storage.Custom {
		return []archive.Root{{Dir: u.dir, Place: placeBelow(at), Whole: true, Update: update}}, nil
	}
	root := filepath.Join(u.dir, rootfsDir)
	if update { // What is the daemon's own is little.
		if err := u.clear(); err != nil {
			return nil, err
		}
	} else if err := os.Mkdir(root, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // It is the guest's root.
		return nil, err
	}
	return []archive.Root{
		{Dir: root, Place: placeBelow(at + "/" + rootfsDir), Whole: true, Update: update},
		{Dir: u.dir, Place: placeBelow(at)},
	}, nil
}

// clear removes what an instance's volume has beside its root.
func (u *unpacker) clear() error {
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != metadataFile && name != templatesDir && !strings.HasPrefix(name, tpmPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(u.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// placeBelow is where entries below a directory of the archive go.
func placeBelow(dir string) func(string) string {
	return func(name string) string {
		if rest, ok := below(name, dir); ok {
			return rest
		}
		return ""
	}
}

// end ends the state that is unpacked, if there is one.
func (u *unpacker) end() error {
	if u.x == nil {
		return nil
	}
	err := u.x.Finish()
	u.leave()
	if err != nil {
		return err
	}
	if u.state != "" {
		if err := u.snapshot(); err != nil {
			return fmt.Errorf("make snapshot %q: %w", u.state, err)
		}
	}
	u.done[u.state] = true
	return nil
}

// snapshot makes the snapshot that the state is of. The volume is not mounted
// meanwhile, so that it can share the snapshot's files on all drivers.
func (u *unpacker) snapshot() error {
	if err := u.driver.Unmount(u.ctx, u.volume); err != nil {
		return err
	}
	snapshot := u.volume
	snapshot.Snapshot = u.state
	if err := u.driver.Snapshot(u.ctx, snapshot); err != nil {
		return err
	}
	u.done[u.state] = true // Undone if what follows fails.
	var err error
	u.dir, err = u.driver.Mount(u.ctx, u.volume, nil)
	return err
}
