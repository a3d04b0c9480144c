package images

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// incoming is an image in the making. Its files are in dir: image and, if it
// is split, rootfs. Without dir it is to have those of another project's.
type incoming struct {
	s       *Service
	dir     string
	split   bool
	image   db.Image
	aliases []api.ImageAlias
	hash    hash.Hash // Of all files so far.
}

// Import reads an upload to its end and answers with what remains to be done:
// to look at what came, and to keep it.
func (s *Service) Import(ctx context.Context, up Upload) (job ops.Job, err error) {
	in := s.incoming(up.Project, up.Aliases)
	in.image.Filename = path.Base("/" + up.Filename)
	if in.image.Filename == "/" {
		in.image.Filename = ""
	}
	if err := in.begin(ctx, up.Put); err != nil {
		return ops.Job{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(in.dir))
		}
	}()
	if err := in.receive(ctx, up); err != nil {
		return ops.Job{}, diskFull(s.dir(), err)
	}
	if err := in.identify(ctx, up.Fingerprint); err != nil {
		return ops.Job{}, err
	}
	return in.job(), nil
}

// incoming begins an image of a project.
func (s *Service) incoming(in string, aliases []api.ImageAlias) *incoming {
	return &incoming{s: s, aliases: aliases, hash: sha256.New(), image: db.Image{Project: cmp.Or(in, project.Default)}}
}

// begin checks what is known before there are files, and makes their
// directory.
func (in *incoming) begin(ctx context.Context, put api.ImagePut) (err error) {
	if err := in.check(ctx, &put); err != nil {
		return err
	}
	in.dir, err = in.s.tempDir()
	return err
}

// check checks what is known of an image before there are files, and takes it
// on.
func (in *incoming) check(ctx context.Context, put *api.ImagePut) error {
	err := in.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := in.s.checkPut(ctx, tx, in.image.Project, put); err != nil {
			return err
		}
		return checkNew(ctx, tx, in.aliases, in.image)
	})
	in.image.Public, in.image.Expires = put.Public, put.ExpiresAt
	in.image.Properties, in.image.Profiles = put.Properties, put.Profiles
	return err
}

func (in *incoming) receive(ctx context.Context, up Upload) error {
	if err := in.add(ctx, "image", up.Metadata); err != nil {
		return fmt.Errorf("receive the image: %w", err)
	}
	if up.NextRootfs == nil {
		return nil
	}
	rootfs, _, err := up.NextRootfs()
	if err != nil {
		return err
	}
	in.split = true
	if err := in.add(ctx, "rootfs", rootfs); err != nil {
		return fmt.Errorf("receive the rootfs: %w", err)
	}
	return nil
}

// add writes a file of the image.
func (in *incoming) add(ctx context.Context, name string, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(in.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()

	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, in.hash)}, ctxReader{ctx, r}, make([]byte, 1<<18))
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	in.image.Size += n
	return f.Close()
}

// ctxReader fails when ctx has ended.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	crash.Within("an image is received")
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// diskFull says in a sentence that there is no room for what goes into dir.
func diskFull(dir string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errs.Newf(errs.Unavailable, "the disk that holds %s is full: %w%s", dir, err, mounts.DescribeRoom(dir))
	}
	return err
}

// identify sets the image's fingerprint: that of all bytes of its files.
func (in *incoming) identify(ctx context.Context, want string) error {
	got := hex.EncodeToString(in.hash.Sum(nil))
	if want != "" && want != got {
		return errs.Invalidf("the image's fingerprint is %s, but the request says %s", got, want)
	}
	in.image.Fingerprint = got
	return in.mustBeNew(ctx)
}

// mustBeNew refuses an image that its project has already.
func (in *incoming) mustBeNew(ctx context.Context) error {
	return in.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetImage(ctx, tx, in.image.Key())
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		if err == nil {
			err = errs.Conflictf("Image with same fingerprint already exists")
		}
		return err
	})
}

func (in *incoming) job() ops.Job {
	return ops.Job{
		Description: "Importing image",
		Resources:   map[string][]string{"images": {imageURL(in.image.Key())}},
		Metadata:    result(in.image),
		Cancelable:  true,
		Run: func(ctx context.Context, _ *ops.Op) (err error) {
			defer func() { err = errors.Join(err, os.RemoveAll(in.dir)) }()
			if err := in.verify(ctx); err != nil {
				return err
			}
			return in.keep(ctx)
		},
	}
}

// result is what clients find in the metadata of an operation that made an
// image.
func result(i db.Image) map[string]any {
	return map[string]any{"fingerprint": i.Fingerprint, "size": strconv.FormatInt(i.Size, 10)}
}

// verify reads the image's files to their end, and what it needs of them.
func (in *incoming) verify(ctx context.Context) error {
	c := contents{rootfs: in.split}
	if err := walkFile(ctx, filepath.Join(in.dir, "image"), c.entry); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	meta, err := c.parse()
	if err != nil {
		return err
	}
	if in.split {
		if err := verifyRootfs(ctx, filepath.Join(in.dir, "rootfs")); err != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	in.describe(meta)
	return nil
}

// describe takes what metadata.yaml says; what the user says counts more.
func (in *incoming) describe(meta api.ImageMetadata) {
	properties := maps.Clone(meta.Properties)
	if properties == nil {
		properties = map[string]string{}
	}
	maps.Copy(properties, in.image.Properties)
	in.image.Properties = properties
	in.image.Architecture = meta.Architecture
	in.image.Created = unixTime(meta.CreationDate)
	if in.image.Expires.IsZero() {
		in.image.Expires = unixTime(meta.ExpiryDate)
	}
}

// verifyRootfs reads a rootfs of its own file, of either kind.
func verifyRootfs(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	format, err := detect(f)
	if err != nil {
		return err
	}
	if format == archive.Squashfs {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		return archive.CheckSquashfs(f, st.Size())
	}
	entries := 0
	_, err = archive.Walk(ctx, f, func(name string, h *tar.Header, _ io.Reader) error {
		entries++
		if name == "." && h.Typeflag != tar.TypeDir {
			return errs.Invalidf("bad archive: its root is not a directory")
		}
		return nil
	})
	if err == nil && entries == 0 {
		err = errs.Invalidf("bad archive: it is empty")
	}
	return err
}

// detect tells the format of a file, and leaves it at its beginning.
func detect(f *os.File) (archive.Format, error) {
	format, err := archive.Detect(bufio.NewReader(f))
	if err != nil {
		return "", err
	}
	_, err = f.Seek(0, io.SeekStart)
	return format, err
}

func walkFile(ctx context.Context, file string, fn func(string, *tar.Header, io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	_, err = archive.Walk(ctx, f, fn)
	return err
}

// contents is what verify finds in the first file of an image.
type contents struct {
	metadata []byte
	rootfs   bool // There is one.
}

// entry looks at an entry. What the daemon itself reads of an image later is
// what it seems to be, not a link to somewhere.
func (c *contents) entry(name string, h *tar.Header, data io.Reader) error {
	top, rest, _ := strings.Cut(name, "/")
	want := byte(0)
	switch {
	case name == metadataFile:
		want = tar.TypeReg
	case name == templatesDir, name == rootfsDir:
		want = tar.TypeDir
	case top == templatesDir && !strings.Contains(rest, "/"):
		want = tar.TypeReg
	case top == metadataFile, top == templatesDir:
		return errs.Invalidf("bad image: %q is where no file belongs", name)
	}
	if want != 0 && h.Typeflag != want {
		return errs.Invalidf("bad image: %q is of type %q: want a file for metadata.yaml and templates, and a directory for rootfs", name, h.Typeflag)
	}
	if top == rootfsDir {
		c.rootfs = true
	}
	if name != metadataFile {
		return nil
	}
	var err error
	if c.metadata, err = io.ReadAll(io.LimitReader(data, maxMetadata+1)); err == nil && len(c.metadata) > maxMetadata {
		err = errs.Invalidf("bad image: metadata.yaml is larger than %d bytes", maxMetadata)
	}
	return err
}

func (c *contents) parse() (api.ImageMetadata, error) {
	if c.metadata == nil {
		return api.ImageMetadata{}, errs.Invalidf("bad image: there is no metadata.yaml in it")
	}
	if !c.rootfs {
		return api.ImageMetadata{}, errs.Invalidf("bad image: there is no directory rootfs in it, and no second file with one")
	}
	return ParseMetadata(c.metadata)
}

// keep makes the image known. Its record comes first, so that what a crash
// leaves behind is found by [Service.Recover].
func (in *incoming) keep(ctx context.Context) (err error) {
	s, key := in.s, in.image.Key()
	unlock, err := s.locks.LockContext(ctx, in.image.Fingerprint)
	if err != nil {
		return err
	}
	defer unlock()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	in.image.Status = db.Pending
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		in.image.Uploaded = tx.Now()
		return db.AddImage(ctx, tx, &in.image)
	})
	if err != nil {
		return err
	}
	u.Push("remove the image", func(ctx context.Context) error { return s.removeRecord(ctx, key) })

	if err := in.placeFiles(ctx); err != nil {
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := checkNew(ctx, tx, in.aliases, in.image); err != nil {
			return err
		}
		if err := setAliases(ctx, tx, in.aliases, in.image); err != nil {
			return err
		}
		return db.SetImageStatus(ctx, tx, key, db.Ready)
	})
	if err != nil {
		return err
	}
	in.image.Status = db.Ready
	s.Events.Lifecycle("image-created", imageURL(key), map[string]any{"type": "container"})
	for _, a := range in.aliases {
		s.Events.Lifecycle("image-alias-created", aliasURL(project.Key(in.image.Project, a.Name)), map[string]any{"target": in.image.Fingerprint})
	}
	return nil
}

// placeFiles sees to it that the image's files are where they stay: they are,
// if another project has the image.
func (in *incoming) placeFiles(ctx context.Context) error {
	shared, err := in.s.shared(ctx, in.image.Fingerprint, in.image.Key())
	switch {
	case err != nil || shared:
		return err
	case in.dir == "":
		return errs.NotFoundf("image %s was deleted meanwhile", short(in.image.Fingerprint))
	}
	return in.moveFiles()
}

// moveFiles moves the image's files to where they stay.
func (in *incoming) moveFiles() error {
	names := map[string]string{"image": ""}
	if in.split {
		names["rootfs"] = rootfsSuffix
	}
	for name, suffix := range names {
		if err := os.Rename(filepath.Join(in.dir, name), in.s.file(in.image.Fingerprint, suffix)); err != nil {
			return err
		}
	}
	return syncDir(in.s.dir())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()

	return f.Sync()
}
