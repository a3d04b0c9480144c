package zfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

func open(ctx context.Context, cfg storage.Config) (storage.Driver, error) {
	p, err := placeOf(cfg)
	if err != nil {
		return nil, err
	}
	m, err := p.find(ctx)
	if isMissing(err) {
		err = errs.Newf(errs.Unavailable, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	if m.pool == "" {
		return nil, errs.Newf(errs.Unavailable, "the dataset %q holds no storage pool", p.root)
	}
	// What the last daemon's programs were about is done after this.
	if _, err := zpool(ctx, "sync", p.zpool()); err != nil {
		return nil, err
	}
	d := &driver{place: p, points: layout.PointsOf(cfg)}
	how := cfg.Options[cloneKey]
	d.cloneCopy.Store(&how)
	if err := d.look(ctx); err != nil {
		return nil, fmt.Errorf("look for what was left half-made: %w", err)
	}
	return d, nil
}

// look takes note of what is there, and brings to its end what must not be
// seen half done.
func (d *driver) look(ctx context.Context) error {
	columns := "name,written,quota,refquota,defer_destroy," + optionsProp + "," + swapProp + "," + delegatedProp
	l := leftovers{swaps: map[string]string{}, written: map[string]bool{}, delegates: map[string]bool{}}
	if err := d.lookForDelegated(ctx, &l); err != nil {
		return err
	}
	all, err := d.listOwn(ctx, columns)
	if err != nil {
		return err
	}
	for _, row := range all {
		dataset, snap := cut(row[0])
		switch {
		case snap == "":
			d.lookAt(row, &l)
			d.lookAtDelegate(row[0], row[7], &l)
		case snap == imageSnap && l.written[dataset]:
			l.images = append(l.images, dataset)
		case strings.HasPrefix(snap, copyPrefix) || strings.HasPrefix(snap, gonePrefix):
			if row[4] != "on" && !strings.HasPrefix(dataset, d.in(stagingDir+"/")) && !strings.HasPrefix(dataset, d.in(deletedDir+"/")) {
				d.trash.wait(row[0])
			}
		}
	}
	for _, image := range l.images {
		if err := d.freezeImage(ctx, image); err != nil {
			return err
		}
	}
	d.leaveDelegated(l)
	return d.finishSwaps(ctx, l)
}

// listOwn lists all datasets and snapshots but those of guests.
func (d *driver) listOwn(ctx context.Context, columns string) ([][]string, error) {
	list := []string{"list", "-H", "-p", "-r", "-t", "filesystem,snapshot", "-o", columns}
	for _, base := range bases {
		if base != delegatedDir && !strings.Contains(base, "/") {
			list = append(list, d.in(base))
		}
	}
	return rows(ctx, list...)
}

// leftovers are what look found to be done.
type leftovers struct {
	staged    []string          // What is in staging.
	swaps     map[string]string // By ids, the datasets that take the place of others; and the places.
	written   map[string]bool   // Images that changed since their snapshots.
	images    []string
	delegated []string        // The IDs of what guests have.
	delegates map[string]bool // Those of them that volumes know.
}

// lookAt takes note of a dataset.
func (d *driver) lookAt(row []string, l *leftovers) {
	name, written, quota, refquota, options, swap := row[0], row[1], row[2], row[3], row[5], row[6]
	rel, below := strings.CutPrefix(name, d.root+"/")
	if !below { // The pool itself.
		return
	}
	parts := strings.Split(rel, "/")
	if id, place, ok := strings.Cut(swap, " "); ok && len(parts) == 2 {
		l.swaps[id+" "+name] = place
	}
	switch {
	case len(parts) == 3 && parts[0] == deletedDir:
		d.trash.wait("")
	case len(parts) == 3 && strings.HasPrefix(parts[2], historyPrefix):
		parent, _, _ := cutLast(name)
		d.facts.update(parent, func(f *fact) { f.history = true })
	case len(parts) != 2:
	case parts[0] == stagingDir:
		l.staged = append(l.staged, name)
	default:
		d.facts.update(name, func(f *fact) {
			f.limited = quota+refquota != "00"
			f.options = parseOptions(options)
		})
		l.written[name] = parts[0] == dirs[storage.Image] && written != "0"
	}
}

// finishSwaps finishes what swap began, and leaves the rest of staging to
// Sweep.
func (d *driver) finishSwaps(ctx context.Context, l leftovers) error {
	for _, name := range l.staged {
		id, old := strings.CutSuffix(strings.TrimPrefix(name, d.in(stagingDir)+"/"), oldSuffix)
		switch {
		case old:
			if err := d.finishSwap(ctx, name, id, l); err != nil {
				return err
			}
		case !slices.Contains(l.staged, name+oldSuffix): // It takes no place that is free already.
			d.trash.leave(name)
		}
	}
	return nil
}

// finishSwap finishes that with the id, which has moved old out of the way.
func (d *driver) finishSwap(ctx context.Context, old, id string, l leftovers) error {
	for key, rel := range l.swaps {
		of, fresh, _ := strings.Cut(key, " ")
		if of != id {
			continue
		}
		place := d.in(rel)
		if fresh != place && strings.HasPrefix(fresh, d.in(stagingDir+"/")) {
			if _, err := zfs(ctx, "rename", fresh, place); err != nil {
				return err
			}
		} else {
			place = fresh
		}
		var u undo.Stack // Nothing is taken back: this is the way forward.
		return d.settleSwap(ctx, old, place, &u)
	}
	return nil // Nobody knows what it was: it stays where it is.
}
