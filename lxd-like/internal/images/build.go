package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/run"
)

// exclude and the others are scripts that mmdebstrap runs.
var (
	//go:embed exclude.sh
	exclude []byte
	//go:embed cloud.sh
	cloudSetup []byte
	//go:embed systemd.sh
	systemdSetup []byte
	//go:embed init.sh
	initSetup []byte
	//go:embed customize.sh
	customize []byte
)

// mergedHooks is where mmdebstrap has the hooks that merge /usr from the
// start. Without them some suites install a package for it that is of no use
// afterwards, and needs all of Perl.
const mergedHooks = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"

// packages are what an image has beyond apt and what is essential.
var packages = []string{
	"systemd", "systemd-sysv", "systemd-resolved", "dbus", "iproute2", "iputils-ping", "ca-certificates",
	"netbase", "procps", "less", "vim-tiny", "login", "passwd",
}

// systemdPackages are those of them that images with another init lack, and
// otherPackages what they have instead.
var (
	systemdPackages = []string{"systemd", "systemd-sysv", "systemd-resolved", "dbus"}
	otherPackages   = []string{"ifupdown", "udhcpc", "logrotate"}
)

// olderSuites have resolved in the package systemd.
var olderSuites = []string{"buster", "bullseye", "oldoldstable"}

// buildProgress is the key of an operation's metadata that says how far a
// build is.
const buildProgress = "build_image_progress"

// Make makes an image in a project: it builds one, or makes one of an instance,
// of a snapshot, or of another project's image. To make one of another
// server's image is for versions to come.
func (s *Service) Make(ctx context.Context, in string, req api.ImagesPost) (ops.Job, error) {
	if req.Source == nil {
		return ops.Job{}, errs.Invalidf("source is missing")
	}
	switch req.Source.Type {
	case "build":
		return s.makeBuild(ctx, in, req)
	case "instance", "snapshot":
		return s.publish(ctx, in, req)
	case "image":
		return s.copy(ctx, in, req)
	}
	return ops.Job{}, errs.Invalidf("source.type is %q: want build, instance, snapshot or image, or upload an image", req.Source.Type)
}

func (s *Service) makeBuild(ctx context.Context, in string, req api.ImagesPost) (ops.Job, error) {
	if req.CompressionAlgorithm != "" && req.CompressionAlgorithm != "zstd" {
		return ops.Job{}, errs.Invalidf("compression_algorithm is %q: images that are built have zstd", req.CompressionAlgorithm)
	}
	name := req.Source.Name
	if name == "" {
		name = req.Source.Alias
	}
	if v := req.Source.Variant; v != "" && v != "default" {
		name += "/" + v
	}
	source, ok := parseSource(name)
	if !ok {
		return ops.Job{}, errs.Invalidf("source.name is %q: want debian:SUITE or debian:SUITE/VARIANT, such as debian:bookworm, where VARIANT is %s", name, Variants)
	}
	b := &build{s: s, project: in, source: source, put: req.ImagePut, aliases: req.Aliases, fresh: req.Source.Refresh}
	if err := b.incoming().check(ctx, &b.put); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Building image " + source.String(),
		Cancelable:  true,
		Run: func(ctx context.Context, op *ops.Op) error {
			image, err := b.run(ctx, op)
			if err != nil {
				return err
			}
			for k, v := range result(image) {
				op.SetMetadata(k, v)
			}
			return nil
		},
	}, nil
}

// Build makes the image that an alias, such as "debian:bookworm", names, or
// returns the one that was built before. It has the key of the alias.
func (s *Service) Build(ctx context.Context, key string, op *ops.Op) (db.Image, error) {
	in, alias := project.Split(key)
	source, ok := parseSource(alias)
	if !ok {
		return db.Image{}, noImage(alias)
	}
	b := &build{s: s, project: in, source: source, put: api.ImagePut{Properties: map[string]string{}, Profiles: []string{"default"}}}
	return b.run(ctx, op)
}

// A build is an image that is to be built.
type build struct {
	s       *Service
	project string
	source  buildSource
	put     api.ImagePut
	aliases []api.ImageAlias
	fresh   bool // Even if there is one.
	op      *ops.Op
}

// incoming begins an image that is built.
func (b *build) incoming() *incoming {
	in := b.s.incoming(b.project, b.aliases)
	in.image.Source, in.split = b.source.String(), true
	return in
}

// run builds the image unless it is there, in this project or in another,
// whose files it then has. Those who want the same one wait for the first of
// them.
func (b *build) run(ctx context.Context, op *ops.Op) (db.Image, error) {
	b.op = op
	asked := time.Now()
	unlock, err := b.s.locks.LockContext(ctx, b.source.String())
	if err != nil {
		return db.Image{}, err
	}
	defer unlock()

	image, err := b.cached(ctx, asked)
	if !errs.Is(err, errs.NotFound) {
		return image, err
	}
	image, err = b.share(ctx, asked)
	if !errs.Is(err, errs.NotFound) {
		return image, err
	}
	image, err = b.make(ctx)
	if err != nil {
		return db.Image{}, fmt.Errorf("build %s: %w", b.source, diskFull(b.s.dir(), err))
	}
	return image, nil
}

// cached returns the image that was built before, with the aliases that are
// wanted, or an error of kind NotFound.
func (b *build) cached(ctx context.Context, asked time.Time) (db.Image, error) {
	var image db.Image
	err := b.s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if image, err = db.ImageBySource(ctx, tx, project.Key(b.project, b.source.String())); err != nil {
			return err
		}
		if !b.suits(image, asked) {
			return errs.NotFoundf("no fresh image of %s", b.source)
		}
		if err := checkNew(ctx, tx, b.aliases, image); err != nil {
			return err
		}
		return setAliases(ctx, tx, b.aliases, image)
	})
	return image, err
}

// suits reports whether an image of the source need not be built again. A fresh
// one that came while this waited for the lock is fresh.
func (b *build) suits(image db.Image, asked time.Time) bool {
	return !b.fresh || !image.Uploaded.Before(asked)
}

// share makes the image of one that another project has built, or returns an
// error of kind NotFound.
func (b *build) share(ctx context.Context, asked time.Time) (db.Image, error) {
	in := b.incoming()
	if err := in.check(ctx, &b.put); err != nil {
		return db.Image{}, err
	}
	other, err := b.other(ctx)
	if err != nil {
		return db.Image{}, err
	}
	if !b.suits(other, asked) {
		return db.Image{}, errs.NotFoundf("no fresh image of %s", b.source)
	}
	in.share(other)
	if in.mustBeNew(ctx) != nil { // This project has it, as one that was not built.
		return db.Image{}, errs.NotFoundf("no image of %s but one that is there", b.source)
	}
	meta, err := b.s.metadata(ctx, other.Fingerprint)
	if err != nil {
		return db.Image{}, err
	}
	in.describe(meta)
	return in.image, in.keep(ctx)
}

// other returns the newest image of the source that some project has built, or
// an error of kind NotFound.
func (b *build) other(ctx context.Context) (db.Image, error) {
	var all []db.Image
	err := b.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.ImagesBySource(ctx, tx, b.source.String())
		return err
	})
	if err == nil && len(all) == 0 {
		err = errs.NotFoundf("no image of %s", b.source)
	}
	if err != nil {
		return db.Image{}, err
	}
	return all[0], nil
}

// make builds the image in a directory of its own and keeps it.
func (b *build) make(ctx context.Context) (_ db.Image, err error) {
	if err := run.Look("mmdebstrap", "mmdebstrap"); err != nil {
		return db.Image{}, err
	}
	in := b.incoming()
	if err := in.begin(ctx, b.put); err != nil {
		return db.Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(in.dir)) }()

	meta := debianMetadata(b.source, time.Now().UTC())
	packed, err := packMetadata(meta)
	if err != nil {
		return db.Image{}, err
	}
	in.image.Filename = fmt.Sprintf("%s-%s-%s.tar.zst", b.source.distribution, strings.Trim(b.source.suite+"-"+b.source.variant, "-"), meta.Properties["serial"])
	if err := in.add(ctx, "image", bytes.NewReader(packed)); err != nil {
		return db.Image{}, err
	}
	if err := b.bootstrap(ctx, in); err != nil {
		return db.Image{}, err
	}
	in.describe(meta)
	if err := in.identify(ctx, ""); err != nil {
		return db.Image{}, err
	}
	return in.image, in.keep(ctx)
}

// tell says what the build is doing.
func (b *build) tell(what string) {
	if b.op != nil {
		b.op.SetMetadata(buildProgress, fmt.Sprintf("Building %s: %s", b.source, what))
	}
}

// debArch is Debian's name of this machine's architecture.
func debArch() string {
	names := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el", "loong64": "loong64"}
	if name, ok := names[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}

func debianMetadata(of buildSource, now time.Time) api.ImageMetadata {
	suite, variant, more := of.suite, of.variant, ""
	if variant == "" {
		variant = "default"
	} else {
		more = " " + variant
	}
	serial := now.Format("20060102_1504")
	arch := debArch()
	return api.ImageMetadata{
		Architecture: architectures[arch],
		CreationDate: now.Unix(),
		Properties: map[string]string{
			"os": "Debian", "release": suite, "architecture": arch, "variant": variant, "serial": serial,
			"name":        fmt.Sprintf("debian-%s-%s-%s-%s", suite, arch, variant, serial),
			"description": fmt.Sprintf("Debian %s%s %s (%s)", suite, more, arch, serial),
		},
		Templates: map[string]*api.ImageMetadataTemplate{
			"/etc/hostname": {When: []string{"create", "copy", "rename"}, Template: "hostname.tpl", Properties: map[string]string{}},
		},
	}
}

// packMetadata makes the first file of a split image.
func packMetadata(meta api.ImageMetadata) ([]byte, error) {
	text, err := formatMetadata(meta)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	z, err := zstd.NewWriter(&buf)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	at := time.Unix(meta.CreationDate, 0)
	for _, f := range []struct {
		header tar.Header
		data   string
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: metadataFile, Mode: 0o644}, string(text)},
		{tar.Header{Typeflag: tar.TypeDir, Name: templatesDir + "/", Mode: 0o755}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: templatesDir + "/hostname.tpl", Mode: 0o644}, "{{ instance.name }}\n"},
	} {
		f.header.Size, f.header.ModTime = int64(len(f.data)), at
		if err := w.WriteHeader(&f.header); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, f.data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// bootstrap lets mmdebstrap write the rootfs. It runs in namespaces of its
// own, so that its mounts and all its processes go with it, however it ends.
func (b *build) bootstrap(ctx context.Context, in *incoming) error {
	work := filepath.Join(in.dir, "work")
	args, err := b.arguments(ctx, work)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := b.mmdebstrap(ctx, work, args, w)
		_ = w.CloseWithError(err) // It never fails.
		failed <- err
	}()
	err = in.add(ctx, "rootfs", r)
	_ = r.CloseWithError(err) // So that mmdebstrap does not wait for a reader. It never fails.
	// One of the two failed first, and made the other fail.
	if cause := <-failed; cause != nil && (err == nil || errors.Is(err, cause)) {
		return cause
	}
	return err
}

// roomy is how much memory, in KiB, has to be free to build an image in it.
const roomy = 2 << 20

// inMemory is a script that runs a program whose directory of temporary files
// is in memory, if there is enough. All that dpkg does to be sure that
// nothing is lost, in files that are there for half a minute, costs nothing
// then, and the files are gone when the mount namespace is.
const inMemory = `
	free=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
	if [ "${free:-0}" -gt "$1" ]; then
		mount -t tmpfs -o mode=0711 build "$TMPDIR"
	fi
	shift
	exec "$@"`

func (b *build) mmdebstrap(ctx context.Context, work string, args []string, w io.Writer) error {
	// The level that costs least: to read and write the image is quick
	// against the rest, and what is small is also unpacked faster.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	err = run.Program{
		Args: slices.Concat([]string{
			"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
			"sh", "-ec", inMemory, "sh", strconv.FormatInt(roomy, 10), "mmdebstrap",
		}, args),
		Env:    []string{"TMPDIR=" + filepath.Join(work, "root"), "DEBIAN_FRONTEND=noninteractive"},
		Stdout: z,
		Line:   b.line,
	}.Run(ctx)
	if err != nil {
		return errors.Join(bootstrapError(ctx, err, b.source.suite), z.Close())
	}
	return z.Close()
}

// line makes progress of what mmdebstrap says.
func (b *build) line(line string) {
	what, ok := strings.CutPrefix(line, "I: ")
	if !ok {
		return
	}
	switch {
	case strings.HasPrefix(what, "running --setup-hook"):
		what = "running apt-get update..." // It is what takes time there.
	case strings.HasPrefix(what, "running --customize-hook"):
		what = "setting it up..."
	}
	what, ok = strings.CutSuffix(what, "...")
	if ok && !strings.Contains(what, "/") { // A path says nothing to users.
		b.tell(strings.TrimSuffix(what, " inside the chroot"))
	}
}

// bootstrapError says in a sentence why mmdebstrap failed.
func bootstrapError(ctx context.Context, err error, suite string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed, ok := errors.AsType[*run.Error](err)
	if !ok {
		return err
	}
	said := complaint(failed.Stderr)
	switch {
	case strings.Contains(failed.Stderr, "does not have a Release file"):
		return errs.NotFoundf("the mirror has no suite %q: %s", suite, said)
	case strings.Contains(failed.Stderr, "NO_PUBKEY"):
		return errs.Newf(errs.Unsupported, "the host's keyring is older than suite %q: install a newer debian-archive-keyring: %s", suite, said)
	case strings.Contains(failed.Stderr, "Temporary failure resolving"), strings.Contains(failed.Stderr, "Could not connect"):
		return errs.Newf(errs.Unavailable, "the mirror cannot be reached: %s", said)
	case strings.Contains(failed.Stderr, unix.ENOSPC.Error()), strings.Contains(failed.Stderr, "No space left"):
		return fmt.Errorf("mmdebstrap: %w: %s", unix.ENOSPC, said)
	}
	return fmt.Errorf("mmdebstrap: %s", said)
}

// complaint picks the first error from what mmdebstrap and apt said, or the
// last line if there is none.
func complaint(stderr string) string {
	last := ""
	for last = range strings.SplitSeq(stderr, "\n") {
		if text, ok := strings.CutPrefix(last, "E: "); ok {
			return text
		}
	}
	return last
}

// arguments prepares the directory that mmdebstrap works in and returns its
// arguments.
func (b *build) arguments(ctx context.Context, work string) ([]string, error) {
	dir := b.s.Apt
	if dir == "" {
		dir = "/etc/apt"
	}
	host, err := aptSources(dir)
	if err != nil {
		return nil, err
	}
	sources, err := debianSources(host, b.source.suite)
	if err != nil {
		return nil, err
	}
	options, err := aptOptions(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(work, "root"), 0o700); err != nil {
		return nil, err
	}
	list := filepath.Join(work, "build.sources")
	inside := slices.Clone(sources)
	for i := range inside {
		inside[i].signedBy = debianKeyring
	}
	for name, text := range map[string]string{
		"build.sources": formatSources(sources), "debian.sources": formatSources(inside),
		"apt.conf": strings.Join(options.image, ""), "exclude.sh": string(exclude), "cloud.sh": string(cloudSetup), "init.sh": string(initSetup), "systemd.sh": string(systemdSetup),
		"customize.sh": string(customize),
	} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o755); err != nil { //nolint:gosec // Some are scripts, none has secrets.
			return nil, err
		}
	}
	args := []string{"--mode=root", "--variant=minbase", "--format=tar", "--include=" + strings.Join(packagesOf(b.source), ",")}
	for _, o := range append(options.host, `Acquire::Languages "none";`) {
		args = append(args, "--aptopt="+strings.TrimSpace(o))
	}
	if _, err := os.Stat(mergedHooks); err == nil {
		args = append(args, "--hook-dir="+mergedHooks)
	}
	setup := "systemd.sh"
	if b.source.otherInit() {
		setup = "init.sh"
	}
	args = append(args, "--customize-hook="+filepath.Join(work, setup))
	if b.source.variant == cloud {
		args = append(args, "--customize-hook="+filepath.Join(work, "cloud.sh"))
	}
	return append(args,
		"--dpkgopt=force-unsafe-io",
		"--extract-hook="+filepath.Join(work, "exclude.sh"), "--customize-hook="+filepath.Join(work, "customize.sh"),
		b.source.suite, "-", list), nil
}

// Recipe identifies what the builder does: images of the same suite and
// recipe differ in nothing but the versions of packages.
func Recipe() string {
	h := sha256.New()
	fmt.Fprintln(h, packages)
	h.Write(exclude)
	h.Write(systemdSetup)
	h.Write(customize)
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func packagesOf(source buildSource) []string {
	all := append(slices.Clone(packages), variants[source.variant]...)
	if source.otherInit() {
		all = slices.DeleteFunc(all, func(p string) bool { return slices.Contains(systemdPackages, p) })
		return append(all, otherPackages...)
	}
	if !slices.Contains(olderSuites, source.suite) {
		return all
	}
	return slices.DeleteFunc(all, func(p string) bool { return p == "systemd-resolved" })
}
