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

const blockSize = 512

// An entryFunc does something with an entry of a tar, whose name is relative,
// clean, and does not lead out: "." is the root.
type entryFunc func(name string, h *tar.Header, data io.Reader) error

// Walk calls fn for each entry of the tar in r, which can be compressed, and
// reads it to its end, so that it finds out if anything is missing. Names are
// relative and clean, and "." is that of the root.
func Walk(ctx context.Context, r io.Reader, fn func(name string, h *tar.Header, data io.Reader) error) (format Format, err error) {
	plain, format, err := Decompress(ctx, r)
	if err != nil {
		return "", err
	}
	defer plain.Close()

	tail := &tailReader{ctx: ctx, r: plain}
	if err := walkTar(tar.NewReader(tail), fn); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, tail); err != nil {
		return "", asInvalid(err)
	}
	if !tail.zero() {
		return "", errs.Invalidf("bad archive: it is cut off, or ends in something else than a tar does")
	}
	return format, nil
}

func walkTar(tr *tar.Reader, fn entryFunc) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return asInvalid(err)
		}
		name, err := safeName(h.Name)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, err = safeName(h.Linkname); err != nil {
				return err
			}
		}
		if err := fn(name, h, tr); err != nil {
			return err
		}
	}
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
}

func (t *tailReader) Read(p []byte) (int, error) {
	if t.ctx.Err() != nil {
		return 0, errs.Newf(errs.Canceled, "%w", context.Cause(t.ctx))
	}
	n, err := t.r.Read(p)
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
