// Package archive unpacks the archives that images and backups come as: tar,
// compressed or not, and squashfs. It packs tars, too.
//
// What it unpacks comes from strangers. A tar is unpacked by this process,
// which lets the kernel resolve each path below the target (package inroot):
// this is as fast as tar(1), needs no second process as a cage and no list of
// tar(1)'s bugs. A squashfs is unpacked by unsquashfs, on all cores, which
// landlock keeps from writing anywhere else. Either way block and character
// devices are left out, and those extended attributes that mean something to
// the host instead of to the guest.
package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// Format is how an archive is packed.
type Format string

// The formats. All but Squashfs are of a tar.
const (
	Tar      Format = ".tar"
	Gzip     Format = ".tar.gz"
	Xz       Format = ".tar.xz"
	Zstd     Format = ".tar.zst"
	Bzip2    Format = ".tar.bz2"
	Lzma     Format = ".tar.lzma"
	Squashfs Format = ".squashfs"
)

// tarMagic is at offset 257 of a tar, of either kind.
var tarMagic = []byte("ustar")

// headSize is how many bytes [Detect] wants to see.
const headSize = 262

var magics = []struct {
	magic  string
	format Format
}{
	{"\x1f\x8b", Gzip},
	{"\xfd7zXZ\x00", Xz},
	{"\x28\xb5\x2f\xfd", Zstd},
	{"BZh", Bzip2},
	{"\x5d\x00\x00", Lzma},
	{"hsqs", Squashfs},
}

// Detect tells the format of what r begins with, which it does not consume.
func Detect(r *bufio.Reader) (Format, error) {
	head, err := r.Peek(headSize)
	if err != nil && len(head) == 0 && err != io.EOF {
		return "", err
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.format, nil
		}
	}
	if len(head) == headSize && bytes.Equal(head[257:], tarMagic) {
		return Tar, nil
	}
	return "", errs.Invalidf("not an archive of a known kind: want a tar, plain or compressed by gzip, bzip2, xz, lzma or zstd, or a squashfs")
}

// Decompress returns the plain tar in r and its format. The caller reads it
// to its end or closes it.
func Decompress(ctx context.Context, r io.Reader) (io.ReadCloser, Format, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	format, err := Detect(br)
	if err != nil {
		return nil, "", err
	}
	var plain io.ReadCloser
	switch format {
	case Tar:
		plain = io.NopCloser(br)
	case Bzip2:
		plain = io.NopCloser(bzip2.NewReader(br))
	case Gzip:
		plain, err = gzip.NewReader(br)
	case Zstd:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(br, zstd.WithDecoderMaxMemory(1<<30)); err == nil {
			plain = d.IOReadCloser()
		}
	case Xz, Lzma:
		if err = run.Look("xz", "xz-utils"); err == nil {
			plain, err = run.Filter(ctx, br, "xz", "--decompress", "--stdout", "--threads=0", "--memlimit-decompress=1GiB")
		}
	case Squashfs:
		err = errs.Invalidf("it is a squashfs, where a tar is needed")
	}
	if err != nil {
		return nil, "", asInvalid(err)
	}
	return plain, format, nil
}

// asInvalid says that the archive is to blame for err, unless err knows
// better.
func asInvalid(err error) error {
	if err == nil || errs.KindOf(err) != errs.Internal {
		return err
	}
	if failed, ok := errors.AsType[*run.Error](err); ok && failed.Stderr != "" {
		said, _, _ := strings.Cut(failed.Stderr, "\n") // What follows is that it gives up.
		return errs.Invalidf("bad archive: %s", said)
	}
	return errs.Newf(errs.Invalid, "bad archive: %w", err)
}
