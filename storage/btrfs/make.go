package btrfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

func makePool(ctx context.Context, cfg storage.Config) (_ storage.Config, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	p, err := placeOf(cfg)
	if errs.Is(err, errs.Unavailable) {
		err = errs.Invalidf("source: %w", err)
	}
	if err != nil {
		return cfg, err
	}
	if err := checkKeys(cfg, p); err != nil {
		return cfg, err
	}
	if !p.mounts() {
		return cfg, form.MakePool(ctx, cfg, createSubvol, onBtrfs)
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return cfg, err
	}
	cfg.Options = maps.Clone(cfg.Options)
	if cfg.Options == nil {
		cfg.Options = map[string]string{}
	}
	makeFS := makeImage
	if p.device != "" {
		makeFS = formatDevice
	}
	if err := makeFS(ctx, cfg, p); err != nil {
		return cfg, err
	}
	u.Push("remove the pool", func(ctx context.Context) error { return remove(ctx, cfg) })

	delete(cfg.Options, wipeKey) // It is done, once and for all.
	if err := mountPlace(cfg, p, 0); err != nil {
		return cfg, errs.Invalidf("%w", err)
	}
	if err := form.Make(p.root); err != nil {
		return cfg, err
	}
	return cfg, removeIfThere(filepath.Join(cfg.Dir, announced))
}

// checkKeys returns an error if keys were given that do not fit the source.
func checkKeys(cfg storage.Config, p place) error {
	if p.mounts() && (p.device == "" || cfg.Options[sizeKey] == "") {
		return nil
	}
	if p.device != "" {
		return errs.Invalidf("key \"size\": a pool on a device is as large as that is")
	}
	for _, key := range []string{sizeKey, createOptions, mountOptions, wipeKey} {
		if v := cfg.Options[key]; v != "" && v != "false" {
			return errs.Invalidf("key %q: it is for a pool on a device or file, and source %q is a directory", key, cfg.Source)
		}
	}
	// Before anything is made in it.
	dir := p.root
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir)
	}
	if err := form.CheckSource(cfg, p.root); err != nil {
		return err
	}
	return onBtrfs(dir)
}

// onBtrfs returns an error if dir is on another file system.
func onBtrfs(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return errs.Invalidf("source: %q is not on a btrfs: give a block device or a directory on one, or no source for a file", dir)
	}
	return nil
}

// minSize is the least size of a file for a btrfs.
const minSize = 256 << 20

// makeImage makes the file of a pool, or takes the one that is its source,
// and a file system on it.
func makeImage(ctx context.Context, cfg storage.Config, p place) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	check := func() error {
		if cfg.Source == "" || cfg.Options[wipeKey] == "true" {
			return nil
		}
		return mustBeEmpty(p.image)
	}
	size, err := layout.Image{Path: p.image, For: "a btrfs", Min: minSize}.Make(cfg, &u, check)
	if err != nil {
		return err
	}
	if size < minSize {
		return errs.Invalidf("source %q: the file is too small for a btrfs: it has %d bytes, and at least 256MiB are needed", p.image, size)
	}
	noteSize(cfg, size)
	return format(ctx, p.image, cfg)
}

// noteSize keeps the size of the file, as the user wrote it if that is what it
// has.
func noteSize(cfg storage.Config, size int64) {
	if said, err := units.ParseBytes(cfg.Options[sizeKey]); err != nil || said != size {
		cfg.Options[sizeKey] = strconv.FormatInt(size, 10)
	}
}

// mustBeEmpty returns an error if a file holds anything.
func mustBeEmpty(path string) error {
	holds, err := layout.Image{Path: path}.Holds()
	if err == nil && holds {
		err = errs.Invalidf("source %q holds data: set source.wipe=true to lose it, or give another%s", path, hintOf(path))
	}
	return err
}

// hintOf says what else than make a pool one can do with a source that is one.
func hintOf(path string) string {
	if id, err := idOf(path); err != nil || id == "" {
		return ""
	}
	return "; if that is a pool whose record is lost, recover it (cuib admin recover NAME=btrfs:" + path + ")"
}

// formatDevice makes a file system on a device that nobody uses, and notes
// its id.
func formatDevice(ctx context.Context, cfg storage.Config, p place) error {
	if err := patiently(ctx, func() error { return free(p.device) }); err != nil {
		return errs.Invalidf("source: %w", err)
	}
	if err := format(ctx, p.device, cfg); err != nil {
		return err
	}
	id, err := idOf(p.device)
	if err != nil {
		return err
	}
	cfg.Options[uuidKey] = id
	return nil
}

// found is what mkfs.btrfs says of what it finds on a device.
var found = regexp.MustCompile(`(?:existing filesystem|partition table) \(([^)]+)\)`)

// format makes a file system on a file or device that holds no data, unless
// that may be lost.
func format(ctx context.Context, path string, cfg storage.Config) error {
	args := append([]string{"mkfs.btrfs", "-q"}, nodeOptions(os.Getpagesize())...)
	id, err := announce(cfg)
	if err != nil {
		return err
	}
	if id != "" {
		args = append(args, "-U", id)
	}
	args = append(args, strings.Fields(cfg.Options[createOptions])...) // Of two the last one counts.
	if cfg.Options[wipeKey] == "true" {
		args = append(args, "-f")
	}
	_, err = run.Cmd(ctx, append(args, "--", path)...)
	e, failed := errors.AsType[*run.Error](err)
	if !failed {
		return err
	}
	if m := found.FindStringSubmatch(e.Stderr); m != nil {
		return errs.Invalidf("source %q holds data (%s): set source.wipe=true to lose it, or give another%s", path, m[1], hintOf(path))
	}
	if cfg.Options[createOptions] != "" {
		return errs.Invalidf("key %q: %w", createOptions, err)
	}
	return err
}

// nodeSize is that of the nodes of the file system's trees. A snapshot counts
// one more reference to each child of its tree's root, and with some hundred
// snapshots each count is in a node of its own, which is written: up to 493
// of 16 KiB, as mkfs.btrfs has them, but 121 of 4 KiB.
const nodeSize = 4096

// nodeOptions returns what asks for such nodes, which are no smaller than a
// page where an old mkfs.btrfs decides.
func nodeOptions(page int) []string {
	if page > nodeSize {
		return nil
	}
	return []string{"--nodesize", strconv.Itoa(nodeSize)}
}

func remove(ctx context.Context, cfg storage.Config) error {
	p, err := placeOf(cfg)
	if errs.Is(err, errs.Unavailable) { // Whatever is there is not the pool's.
		p, err = place{root: dataIn(cfg), device: "none"}, nil
	}
	if err != nil {
		return err
	}
	if !p.mounts() {
		return form.RemovePool(cfg)
	}
	used := "" // What is to be made empty again.
	if cfg.Source != "" {
		err := patiently(ctx, func() (err error) { used, err = mountedDevice(p); return err })
		if err != nil {
			return err
		}
	}
	theirs := form.Owned(cfg, p.root)
	if theirs != nil && !errs.Is(theirs, errs.Unavailable) {
		return theirs
	}
	if theirs != nil { // Another daemon has taken it over.
		used = ""
	} else if err := errors.Join(ctx.Err(), form.Unmake(p.root)); err != nil {
		return err
	} else if used == "" {
		used = announcedOn(cfg, p)
	}
	if err := layout.PointsOf(cfg).Remove(); err != nil {
		return err
	}
	if err := remember(cfg, used); err != nil {
		return err
	}
	if err := mounts.Unmount(p.root); err != nil {
		return err
	}
	if err := empty(ctx, cfg, p, used); err != nil {
		return err
	}
	return errors.Join(removeIfThere(filepath.Join(cfg.Dir, announced)), removeIfThere(p.root))
}

// empty removes what a pool that is unmounted was on: its own file, or what is
// on the device or file used, if that is not an empty string.
func empty(ctx context.Context, cfg storage.Config, p place, used string) error {
	if cfg.Source == "" {
		return removeIfThere(p.image)
	}
	if used == "" {
		return nil
	}
	return patiently(ctx, func() error { return wipe(used) })
}

// patiently calls fn again for a second if it says that others have what they
// may have for a moment only.
func patiently(ctx context.Context, fn func() error) error {
	return mounts.Patiently(ctx, time.Second, func(err error) bool { return errs.Is(err, errs.Conflict) }, fn)
}

// mountedDevice returns the device or file that is mounted as the pool, an
// empty string if none is. If it could not be made empty, because others have
// it in their mount namespaces, or files of it open, it returns an error that
// names them.
func mountedDevice(p place) (string, error) {
	info, err := mounts.Find(p.root)
	if errs.Is(err, errs.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	holders, err := mounts.Holders(func(i mounts.Info) bool { return i.Type == "btrfs" && i.Source == info.Source })
	if err != nil {
		return "", err
	}
	users, err := mounts.Users(p.root)
	if holders = append(holders, users...); err == nil && len(holders) > 0 {
		err = errs.Conflictf("the device %s is in use: by %s", info.Source, mounts.Names(holders))
	}
	if p.image != "" {
		return p.image, err
	}
	return info.Source, err
}

// wipe removes what makes a device a btrfs, so that it counts as empty again,
// and all that a file has.
func wipe(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return busy(path, errs.Conflictf("the device %s is in use", path))
	}
	if err != nil {
		return err
	}
	if st, serr := f.Stat(); serr == nil && st.Mode().IsRegular() {
		err = wipeFile(f, st.Size())
	} else {
		_, err = f.WriteAt(make([]byte, 4096), superOffset)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// wipeFile removes all that a file has. The kernel writes the file system's
// last when the last mount of it goes, which may be a copy in a mount namespace
// that just ended.
func wipeFile(f *os.File, size int64) error {
	mounted, err := mounts.HasLoop(f.Name())
	if err != nil {
		return err
	}
	if mounted {
		return errs.Conflictf("the file %s is still mounted somewhere", f.Name())
	}
	return layout.Clear(f, size)
}

// announced is the file in the pool's directory with the id that the file
// system on a source is about to get. If making the pool is cut short, that is
// how it is known again: what has another id is a user's.
const announced = "making"

// announce makes up such an id, if there is a source.
func announce(cfg storage.Config) (string, error) {
	if cfg.Source == "" {
		return "", nil
	}
	var b [16]byte
	_, _ = rand.Read(b[:])                 // It never fails.
	b[6], b[8] = b[6]&15|4<<4, b[8]&63|128 // A random one, see RFC 9562, 5.4.
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return id, os.WriteFile(filepath.Join(cfg.Dir, announced), []byte(id), 0o600)
}

// remember notes down which file system is about to be wiped, if one is, for
// it to be found again if that is cut short.
func remember(cfg storage.Config, used string) error {
	if used == "" {
		return nil
	}
	id, err := idOf(used)
	if err != nil || id == "" {
		return err
	}
	return os.WriteFile(filepath.Join(cfg.Dir, announced), []byte(id), 0o600)
}

// announcedOn returns the path of a device or file with the file system that
// was announced, or an empty string.
func announcedOn(cfg storage.Config, p place) string {
	id, err := os.ReadFile(filepath.Join(cfg.Dir, announced))
	path := p.device + p.image // One of them.
	if err != nil || len(id) == 0 {
		return ""
	}
	if got, err := idOf(path); err != nil || got != string(id) {
		return ""
	}
	return path
}
