package archives

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
	"github.com/cuib/cuib/storage"
)

// Contents are what a backup is made of.
type Contents struct {
	Index

	Volume storage.Volume // Holds the files of the instance or the custom volume; it is a snapshot, so that nobody changes it.

	// Mount makes the files of the volume or of a snapshot that the index
	// names available until the caller calls leave.
	Mount func(ctx context.Context, v storage.Volume) (dir string, leave func(), err error)
}

// Write writes a backup to w. It is whole only if there is no error. Nothing
// of it is kept meanwhile, on a disk or in memory.
func Write(ctx context.Context, w io.Writer, d storage.Driver, c Contents, how archive.Compression) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	packed, err := how.Writer(ctx, w)
	if err != nil {
		return err
	}
	// Headers are small, and each write is a call of the kernel's.
	buffered := bufio.NewWriterSize(packed, 1<<18)
	p := archive.NewPacker(ctx, buffered)
	p.Whole = true
	b := &writer{ctx: ctx, Contents: c, driver: d, p: p}
	err = b.write()
	if err == nil {
		err = errors.Join(p.Close(), buffered.Flush())
	}
	if err != nil {
		cancel() // It must not come to a good end.
	}
	return errors.Join(err, packed.Close())
}

// A writer writes one backup.
type writer struct {
	Contents

	ctx    context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	driver storage.Driver
	p      *archive.Packer
	doc    []byte
}

func (b *writer) write() error {
	b.Document = portable(prune(b.Document, b.Snapshots))
	b.OptimizedHeader = b.Optimized && b.Backend == "btrfs"
	if err := b.describe(); err != nil {
		return err
	}
	state := b.files
	switch {
	case b.Optimized:
		state = b.stream
	case b.iso():
		state = b.image
	}
	base := ""
	for _, name := range b.Snapshots {
		v := b.Volume.Parent()
		v.Snapshot = name
		if err := state(v, name, base); err != nil {
			return fmt.Errorf("snapshot %q: %w", name, err)
		}
		base = name
	}
	return state(b.Volume, "", base)
}

// describe writes what comes before the files.
func (b *writer) describe() error {
	index, err := b.text()
	if err != nil {
		return err
	}
	if err := b.p.File(indexName, index, time.Now()); err != nil {
		return err
	}
	if b.doc, err = b.Document.YAML(); err != nil || !b.OptimizedHeader {
		return err
	}
	text, err := b.headerText()
	if err != nil {
		return err
	}
	return b.p.File(headerName, text, time.Now())
}

// files writes all files of a volume.
func (b *writer) files(v storage.Volume, snapshot, _ string) error {
	dir, leave, err := b.Mount(b.ctx, v)
	if err != nil {
		return err
	}
	defer leave()

	at := b.place(snapshot)
	if b.Kind == storage.Custom {
		return b.p.Tree(dir, at)
	}
	// As the peers have it: only root may look into it.
	if err := b.p.Dir(at, 0o100, time.Now()); err != nil {
		return err
	}
	if err := b.p.File(path.Join(at, documentFile), b.doc, time.Now()); err != nil {
		return err
	}
	if err := b.metadata(dir, at); err != nil {
		return err
	}
	err = b.p.Tree(filepath.Join(dir, templatesDir), path.Join(at, templatesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.tpms(dir, at); err != nil {
		return err
	}
	return b.p.Tree(filepath.Join(dir, rootfsDir), path.Join(at, rootfsDir))
}

// tpms writes what an instance's TPMs hold.
func (b *writer) tpms(dir, at string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), tpmPrefix) {
			continue
		}
		if err := b.p.Tree(filepath.Join(dir, e.Name()), path.Join(at, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// metadata writes the metadata.yaml of an instance, if it has one.
func (b *writer) metadata(dir, at string) error {
	f, err := openFile(dir, metadataFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndex))
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return b.p.File(path.Join(at, metadataFile), data, st.ModTime())
}

// openFile opens a regular file of a directory.
func openFile(dir, name string) (*os.File, error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := inroot.Open(root, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errs.Invalidf("%s is no regular file", name))
	}
	return f, nil
}

// image writes the image that a volume is.
func (b *writer) image(v storage.Volume, snapshot, _ string) error {
	dir, leave, err := b.Mount(b.ctx, v)
	if err != nil {
		return err
	}
	defer leave()
	f, err := openFile(dir, isoFile)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return b.p.Stream(b.place(snapshot)+b.suffix(), st.Size(), func(w io.Writer) error {
		_, err := io.CopyN(w, f, st.Size())
		return err
	})
}

// stream writes the driver's stream of a volume. A tar says before each file
// how long it is, so that the stream is made twice: what is sent is a
// snapshot, and the same each time.
func (b *writer) stream(v storage.Volume, snapshot, base string) error {
	s, ok := b.driver.(storage.Streamer)
	if !ok {
		return errs.Newf(errs.Unsupported, "storage pool %q, of driver %s, has no optimized format", b.Pool, b.Backend)
	}
	var n counter
	if err := s.Send(b.ctx, &n, v, base); err != nil {
		return err
	}
	return b.p.Stream(b.place(snapshot)+b.suffix(), int64(n), func(w io.Writer) error { return s.Send(b.ctx, w, v, base) })
}

// CheckStream reports why there can be no optimized backup of v, which is a
// snapshot: the driver has no streams, or none of such a volume.
func CheckStream(ctx context.Context, d storage.Driver, v storage.Volume) error {
	s, ok := d.(storage.Streamer)
	if !ok {
		return errs.Newf(errs.Unsupported, "the storage pool has no optimized format: export it without optimized storage")
	}
	var b beginning
	if err := s.Send(ctx, &b, v, ""); err != nil && !b {
		return fmt.Errorf("there is no optimized format for it: %w", err)
	}
	return nil
}

// A beginning takes note that there is something, and no more.
type beginning bool

func (b *beginning) Write([]byte) (int, error) {
	*b = true
	return 0, io.ErrClosedPipe
}

// A counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
