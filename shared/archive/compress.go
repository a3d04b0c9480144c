package archive

import (
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// Compress is the inverse of [Decompress]: it returns what compresses the tar
// in plain. An error of reading that comes from it, in place of [io.EOF]. The
// caller closes it, and makes reads of plain end if that was too early.
func Compress(ctx context.Context, plain io.Reader, format Format) (io.ReadCloser, error) {
	switch format {
	case Tar:
		return io.NopCloser(plain), nil
	case Gzip:
		return compressor(plain, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }), nil
	case Zstd:
		return compressor(plain, func(w io.Writer) (io.WriteCloser, error) {
			// On one goroutine: with more the library has a data race where
			// w refuses what it writes.
			return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
		}), nil
	case Xz:
		return program(ctx, plain, "xz-utils", "xz", "--compress", "--stdout", "--threads=0")
	case Bzip2:
		return program(ctx, plain, "bzip2", "bzip2", "--compress", "--stdout")
	case Lzma, Squashfs:
	}
	return nil, errs.Invalidf("a tar cannot be compressed to a %q", format)
}

func program(ctx context.Context, plain io.Reader, pkg string, args ...string) (io.ReadCloser, error) {
	if err := run.Look(args[0], pkg); err != nil {
		return nil, err
	}
	return run.Filter(ctx, plain, args...)
}

func compressor(plain io.Reader, to func(io.Writer) (io.WriteCloser, error)) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		z, err := to(w)
		if err == nil {
			_, err = io.Copy(z, plain)
			err = errors.Join(err, z.Close())
		}
		_ = w.CloseWithError(err) // It never fails.
	}()
	return r
}
