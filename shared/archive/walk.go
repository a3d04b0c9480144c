package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	blockSize = 512

	// maxHoles is how long a file with holes can be. The package archive/tar
	// gives all of its zeros, so that a few bytes take as long as these do: some
	// 20 seconds for a TiB.
	maxHoles = 64 << 40
)

// Walk calls fn for each entry of the tar in r, which can be compressed, and
// reads it to its end, so that it finds out if anything is missing. Names are
// relative and clean, and "." is that of the root.
func Walk(ctx context.Context, r io.Reader, fn func(name string, h *tar.Header, data io.Reader) error) (format Format, err error) {
	in, err := NewReader(ctx, r)
	if err != nil {
		return "", err
	}
	defer in.Close()
	for {
		name, h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return in.Format, nil
		}
		if err == nil {
			err = fn(name, h, in)
		}
		if err != nil {
			return "", err
		}
	}
}

// A Reader reads a tar, which can be compressed, entry by entry.
type Reader struct {
	Format Format // How it is packed.

	plain io.ReadCloser
	tail  *tailReader
	tar   *tar.Reader
}

// NewReader returns a Reader of r that ends with ctx. The caller closes it.
func NewReader(ctx context.Context, r io.Reader) (*Reader, error) {
	plain, format, err := Decompress(ctx, r)
	if err != nil {
		return nil, err
	}
	tail := &tailReader{ctx: ctx, r: plain}
	return &Reader{Format: format, plain: plain, tail: tail, tar: tar.NewReader(tail)}, nil
}

// Close ends what decompresses.
func (r *Reader) Close() { r.plain.Close() }

// Read reads the data of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = asInvalid(err)
	}
	return n, err
}

// Next goes to the next entry. Its name, and that of the entry that it is a
// hard link to, are relative and clean, and do not lead out: "." is the root.
// At the end of an archive that is whole the error is [io.EOF].
func (r *Reader) Next() (name string, h *tar.Header, err error) {
	h, err = r.tar.Next()
	if errors.Is(err, io.EOF) {
		return "", nil, r.end()
	}
	if err != nil {
		return "", nil, asInvalid(err)
	}
	if name, err = safeName(h.Name); err != nil {
		return "", nil, err
	}
	if h.Size > maxHoles && sparse(h) {
		return "", nil, errs.Invalidf("bad archive: entry %q is a file with holes of %d bytes, at most %d are allowed", h.Name, h.Size, int64(maxHoles))
	}
	if h.Typeflag == tar.TypeLink {
		h.Linkname, err = safeName(h.Linkname)
	}
	return name, h, err
}

// end finds out if what follows the last entry is what ends a tar.
func (r *Reader) end() error {
	if _, err := io.Copy(io.Discard, r.tail); err != nil {
		return asInvalid(err)
	}
	if !r.tail.zero() {
		return errs.Invalidf("bad archive: it is cut off, or ends in something else than a tar does")
	}
	return io.EOF
}

// safeName makes a name in an archive relative and clean, or refuses it.
func safeName(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", errs.Invalidf(`bad archive: entry %q leads out of it by ".."`, name)
	}
	if strings.ContainsRune(name, 0) {
		return "", errs.Invalidf("bad archive: the name of entry %q has a NUL in it", name)
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}

// A tailReader remembers the last block that was read, and fails when ctx has
// ended: little that is compressed can be much to read.
type tailReader struct {
	ctx  context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	r    io.Reader
	tail []byte
	all  int64 // How many bytes were read.
}

func (t *tailReader) Read(p []byte) (int, error) {
	if t.ctx.Err() != nil {
		return 0, errs.Newf(errs.Canceled, "%w", context.Cause(t.ctx))
	}
	n, err := t.r.Read(p)
	t.all += int64(n)
	if n >= blockSize {
		t.tail = append(t.tail[:0], p[n-blockSize:n]...)
	} else {
		t.tail = append(t.tail, p[:n]...)
		t.tail = t.tail[max(0, len(t.tail)-blockSize):]
	}
	return n, err
}

// zero reports whether the last block is of zeros, as the last one of each
// tar is.
func (t *tailReader) zero() bool {
	return bytes.Equal(t.tail, make([]byte, blockSize))
}

// badData tells an error of reading the archive from one of writing files. A
// file with a hole of any size is no more to read than its name.
type badData struct {
	ctx context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	r   io.Reader
}

// consumed returns how many bytes of the archive were read, -1 if that is not
// known.
func (b badData) consumed() int64 {
	if r, ok := b.r.(*Reader); ok {
		return r.tail.all
	}
	return -1
}

func (b badData) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, errs.Newf(errs.Canceled, "%w", context.Cause(b.ctx))
	}
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = asInvalid(err)
	}
	return n, err
}
