package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

// bases are the datasets of a pool that the others are in.
var bases = []string{
	"containers", "images", "custom", stagingDir, delegatedDir,
	deletedDir, deletedDir + "/containers", deletedDir + "/images", deletedDir + "/custom",
}

// baseProperties are those of bases that are at the top, which all below
// inherit.
var baseProperties = []string{
	"-o", "mountpoint=legacy", "-o", "canmount=off", "-o", "xattr=sa", "-o", "acltype=posix", "-o", "relatime=on",
	"-o", "setuid=on", "-o", "exec=on", "-o", "devices=on", "-o", "readonly=off",
}

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
	if p.image == "" && cfg.Options[sizeKey] != "" {
		return cfg, errs.Invalidf("key %q: only a pool on a file of its own takes one", sizeKey)
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return cfg, err
	}
	size := ""
	if p.disk() != "" {
		size, err = p.makeZpool(ctx, cfg, &u)
	} else {
		err = p.makeDataset(ctx, cfg, &u)
	}
	if err != nil {
		return cfg, err
	}
	if err := p.makeBases(ctx); err != nil {
		return cfg, err
	}
	return p.keep(cfg, size), nil
}

// makeZpool makes a zpool on the place's file or device, and returns the size
// of the file.
func (p place) makeZpool(ctx context.Context, cfg storage.Config, u *undo.Stack) (size string, err error) {
	if _, err := zpool(ctx, "list", "-H", "-o", "name", p.root); err == nil {
		return "", errs.Invalidf("there is a zpool %q: give another name with the key %q, or that zpool as source", p.root, poolKey)
	}
	args := []string{"create", "-m", "none", "-O", "canmount=off", "-O", poolProp + "=" + cfg.Name, "-o", "autoexpand=on"}
	if p.image != "" {
		bytes, err := layout.Image{Path: p.image, For: "a zpool", Min: minSize}.Make(cfg, u, func() error { return p.mustHaveRoom(cfg) })
		if err != nil {
			return "", err
		}
		size = strconv.FormatInt(bytes, 10)
		args = append(args, "-o", "ashift=12", "-o", "autotrim=on")
		args = append(args, p.cache()...)
	}
	if truth(cfg.Options[wipeKey]) {
		if _, err := run.Cmd(ctx, "wipefs", "-a", p.disk()); err != nil {
			return "", errs.Invalidf("key %q: %w", wipeKey, err)
		}
		args = append(args, "-f")
	}
	u.Push("destroy the zpool", func(ctx context.Context) error {
		return untilFree(ctx, func() error { return p.destroyZpool(ctx, cfg.Name) })
	})
	_, err = zpool(ctx, append(args, p.root, p.disk())...)
	switch {
	case says(err, "use '-f'"):
		return "", errs.Invalidf("source %q holds data: give another, or the key %s=true to lose it: %w", p.disk(), wipeKey, err)
	case says(err, "name"), says(err, "reserved"), says(err, "too small"):
		return "", errs.Invalidf("key %q: %w", poolKey, err)
	}
	return size, err
}

// mustHaveRoom refuses a file of the user's that holds data, which zpool does
// only if that is a zpool.
func (p place) mustHaveRoom(cfg storage.Config) error {
	if cfg.Source == "" || truth(cfg.Options[wipeKey]) {
		return nil
	}
	holds, err := layout.Image{Path: p.image}.Holds()
	if err == nil && holds {
		err = errs.Invalidf("source %q holds data: give another, or the key %s=true to lose it; if that is a pool whose record is lost, recover it (cuib admin recover NAME=zfs:%[1]s)", p.image, wipeKey)
	}
	return err
}

// minSize is the least size of a file for a zpool.
const minSize = 128 << 20

// makeDataset makes the dataset that is the source, or takes one that is
// empty.
func (p *place) makeDataset(ctx context.Context, cfg storage.Config, u *undo.Stack) error {
	if name := cfg.Options[poolKey]; name != "" && name != p.root {
		return errs.Invalidf("key %q: it is %q, and the source %q", poolKey, name, p.root)
	}
	m, err := p.find(ctx)
	if isMissing(err) {
		return p.newDataset(ctx, cfg, u)
	}
	if err != nil {
		return err
	}
	if err := p.mustBeEmpty(ctx, m); err != nil {
		return err
	}
	u.Push("empty the dataset", func(ctx context.Context) error { return p.clear(ctx) })
	_, err = zfs(ctx, "set", poolProp+"="+cfg.Name, p.root)
	return err
}

func (p place) newDataset(ctx context.Context, cfg storage.Config, u *undo.Stack) error {
	parent, _, nested := cutLast(p.root)
	if !nested {
		return errs.Invalidf("source: there is no zpool %q: give one that is there, a block device, or no source for a file", p.root)
	}
	if _, err := zfs(ctx, "list", "-H", "-o", "name", parent); err != nil {
		return errs.Invalidf("source %q: there is no dataset %q to make it in: %w", p.root, parent, err)
	}
	u.Push("destroy the dataset", func(ctx context.Context) error { return p.clear(ctx) })
	_, err := zfs(ctx, "create", "-o", "mountpoint=legacy", "-o", "canmount=off", "-o", poolProp+"="+cfg.Name, "-o", madeProp+"=on", p.root)
	return err
}

// cutLast returns the name of what a dataset is in, and what it has of its own.
func cutLast(name string) (parent, last string, nested bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// mustBeEmpty returns an error if there is anything in the pool's dataset but
// what an empty pool has.
func (p place) mustBeEmpty(ctx context.Context, m marks) error {
	all, err := rows(ctx, "list", "-H", "-r", "-t", "all", "-o", "name", p.root)
	if err != nil {
		return err
	}
	for _, row := range all {
		rel := strings.TrimPrefix(strings.TrimPrefix(row[0], p.root), "/")
		if v, ok := p.volume(row[0]); ok && m.pool != "" {
			return errs.Invalidf("source %q holds a storage pool with volumes, such as %s: recover it (cuib admin recover %s), or give an empty dataset", p.root, v, p.root)
		}
		if rel != "" && (m.pool == "" || !isOwn(rel)) {
			return errs.Invalidf("source %q is not empty: it holds %q; give an empty dataset, or the name of a new one, such as %s/cuib", p.root, row[0], p.root)
		}
	}
	return nil
}

// makeBases makes what is in the pool's dataset.
func (p place) makeBases(ctx context.Context) error {
	for _, base := range bases {
		args := []string{"create"}
		if !strings.Contains(base, "/") {
			args = append(args, baseProperties...)
		} else {
			args = append(args, "-o", "canmount=off")
		}
		_, err := zfs(ctx, append(args, p.in(base))...)
		if err != nil && !exists(err) {
			return fmt.Errorf("make the pool's datasets: %w", err)
		}
	}
	return nil
}

// adopt looks for the pool, for which it imports the zpool.
func adopt(ctx context.Context, cfg storage.Config) (storage.Config, error) {
	p, err := placeOf(cfg)
	if errs.Is(err, errs.Unavailable) {
		return cfg, errs.NotFoundf("%w", err)
	}
	if err != nil {
		return cfg, err
	}
	m, err := p.find(ctx)
	if err != nil {
		return cfg, err
	}
	if m.pool == "" {
		return cfg, errs.NotFoundf("the dataset %q holds no storage pool", p.root)
	}
	size := ""
	if p.image != "" {
		st, err := os.Stat(p.image)
		if err != nil {
			return cfg, err
		}
		size = strconv.FormatInt(st.Size(), 10)
	}
	return p.keep(cfg, size), nil
}

func remove(ctx context.Context, cfg storage.Config) error {
	p, err := placeOf(cfg)
	if err != nil && !errs.Is(err, errs.Unavailable) {
		return err
	}
	m, err := p.find(ctx)
	switch {
	case isMissing(err), err == nil && m.pool == "": // Half-removed, or never ours.
		return p.removeFiles(cfg)
	case err != nil:
		return err
	}
	if err := p.mustHoldNothing(ctx, cfg, m); err != nil {
		return err
	}
	if err := background.wait(ctx, p.root); err != nil {
		return err
	}
	err = untilFree(ctx, func() error { return p.take(ctx, cfg, m.pool) })
	if err != nil {
		return p.heldError(err)
	}
	return p.removeFiles(cfg)
}

// exported reports whether a zpool of the pool's own is not destroyed.
func exported(cfg storage.Config) bool { return truth(cfg.Options[exportKey]) && cfg.Source != "" }

// take takes the pool of the given name, which holds no volumes, from its disk
// or dataset.
func (p place) take(ctx context.Context, cfg storage.Config, name string) error {
	if p.disk() != "" && !exported(cfg) {
		return p.destroyZpool(ctx, name)
	}
	if err := p.clear(ctx); err != nil || p.disk() == "" {
		return err
	}
	_, err := zpool(ctx, "export", p.zpool())
	return err
}

func (p place) removeFiles(cfg storage.Config) error {
	if cfg.Source == "" && p.image != "" {
		if err := os.Remove(p.image); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return layout.PointsOf(cfg).Remove()
}

// mustHoldNothing returns an error if there are volumes in the pool, or if what
// others keep beside them would be destroyed with it.
func (p place) mustHoldNothing(ctx context.Context, cfg storage.Config, m marks) error {
	all, err := rows(ctx, "list", "-H", "-r", "-t", "filesystem,volume", "-o", "name", p.root)
	if err != nil {
		return err
	}
	whole := m.made != "" || p.disk() != "" && !exported(cfg)
	for _, row := range all {
		if v, ok := p.volume(row[0]); ok {
			return errs.Conflictf("the pool holds volumes, such as %s", v)
		}
		rel, below := strings.CutPrefix(row[0], p.root+"/")
		dir, _, _ := strings.Cut(rel, "/")
		if below && !isOwn(rel) && (whole || slices.Contains(bases, dir)) {
			return errs.Conflictf("%q is none of the pool's, and would be destroyed with it: rename or destroy it first", row[0])
		}
	}
	return nil
}

// isOwn reports whether an empty pool can have what is called so in its dataset.
func isOwn(rel string) bool {
	dir, _, _ := strings.Cut(rel, "/")
	return slices.Contains(bases, rel) || dir == deletedDir || dir == stagingDir || dir == delegatedDir
}

// clear removes the pool from a dataset, and the dataset if it was made for
// the pool.
func (p place) clear(ctx context.Context) error {
	m, err := p.marks(ctx)
	if isMissing(err) || err == nil && m.pool == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if m.made != "" {
		_, err := zfs(ctx, "destroy", "-r", p.root)
		return err
	}
	for _, base := range bases {
		if strings.Contains(base, "/") {
			continue
		}
		if _, err := zfs(ctx, "destroy", "-r", p.in(base)); err != nil && !isMissing(err) {
			return err
		}
	}
	own, err := rows(ctx, "get", "-H", "-s", "local", "-o", "property", "all", p.root)
	for _, row := range own {
		if strings.HasPrefix(row[0], "cuib:") && row[0] != poolProp {
			_, ierr := zfs(ctx, "inherit", row[0], p.root)
			err = errors.Join(err, ierr)
		}
	}
	if err != nil {
		return err
	}
	_, err = zfs(ctx, "inherit", poolProp, p.root)
	return err
}

// destroyZpool destroys the zpool of the pool's own, if it is there.
func (p place) destroyZpool(ctx context.Context, name string) error {
	m, err := p.marks(ctx)
	if isMissing(err) || err == nil && m.pool != name {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := zpool(ctx, "destroy", p.zpool()); err != nil {
		return err
	}
	// What is left of it would have the next zpool there refused; but then the
	// user is told what to do.
	_, _ = zpool(ctx, "labelclear", "-f", p.disk())
	_ = p.clearFile()
	return nil
}

// clearFile empties the file that a zpool was on.
func (p place) clearFile() error {
	if p.image == "" {
		return nil
	}
	f, err := os.OpenFile(p.image, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return layout.Clear(f, st.Size())
}

// heldError adds to the error of what is busy who holds it.
func (p place) heldError(err error) error {
	if !isBusy(err) {
		return err
	}
	holders, herr := mounts.Holders(func(i mounts.Info) bool {
		return i.Type == "zfs" && (i.Source == p.root || strings.HasPrefix(i.Source, p.root+"/") || strings.HasPrefix(i.Source, p.root+"@"))
	})
	if herr != nil || len(holders) == 0 {
		return err
	}
	return errs.Conflictf("%w: it is mounted by %s", err, mounts.Names(holders))
}
