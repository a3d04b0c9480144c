package zfs

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// Keys of a volume.
const (
	blockKey    = "zfs.blocksize"
	compressKey = "zfs.compression"
	refquotaKey = "zfs.use_refquota"
	reserveKey  = "zfs.reserve_space"
	delegateKey = "zfs.delegate"
	removeKey   = "zfs.remove_snapshots"

	blockModeKey = "zfs.block_mode"
)

// optionsProp has the options of a volume, as KEY=VALUE,KEY=VALUE.
const optionsProp = "cuib:options"

// The block sizes of ZFS.
const (
	leastBlock = 512
	mostBlock  = 16 << 20
)

// propertiesOf returns the properties that an option of a volume sets. Those of
// its limit are not among them.
func propertiesOf(key, value string) (map[string]string, error) {
	switch key {
	case blockKey:
		size, err := units.ParseBytes(value)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		if size < leastBlock || size > mostBlock || size&(size-1) != 0 {
			return nil, errs.Invalidf("key %q: %s is not a power of two from 512B to 16MiB", key, value)
		}
		return map[string]string{"recordsize": strconv.FormatInt(size, 10)}, nil
	case compressKey:
		return map[string]string{"compression": value}, checkCompression(value)
	case refquotaKey, reserveKey, removeKey, delegateKey:
		return nil, isBool(key, value)
	case blockModeKey:
		return nil, checkBlockMode(value)
	}
	return nil, errs.Invalidf("key %q: there is no such option of a volume", key)
}

// checkBlockMode refuses file systems on block devices. Other servers offer
// them for guests that use overlayfs, which needs no OpenZFS older than what is
// needed here anyway.
func checkBlockMode(value string) error {
	if err := isBool(blockModeKey, value); err != nil || !truth(value) {
		return err
	}
	return errs.Newf(errs.Unsupported, "key %q: volumes are datasets, and no file systems on block devices: "+
		"ZFS could neither limit, compare nor share their files, and overlayfs in guests works on datasets since OpenZFS 2.2, the oldest that is taken; use false",
		blockModeKey)
}

func checkCompression(value string) error {
	name, level, leveled := strings.Cut(value, "-")
	n, err := strconv.Atoi(level)
	switch {
	case !leveled:
		return oneOf(compressKey, value, "on", "off", "lz4", "zstd", "gzip", "lzjb", "zle")
	case err == nil && name == "zstd" && n >= 1 && n <= 19, err == nil && name == "gzip" && n >= 1 && n <= 9:
		return nil
	}
	return errs.Invalidf("key %q: %q is not one of on, off, lz4, zstd, zstd-1 to zstd-19, gzip, gzip-1 to gzip-9, lzjb, zle", compressKey, value)
}

// checkOptions returns what to set for a volume's options.
func checkOptions(options map[string]string) (map[string]string, error) {
	props := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if options[key] == "" {
			continue
		}
		more, err := propertiesOf(key, options[key])
		if err != nil {
			return nil, err
		}
		maps.Copy(props, more)
	}
	return props, nil
}

func formatOptions(options map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if options[key] != "" {
			parts = append(parts, key+"="+options[key])
		}
	}
	return strings.Join(parts, ",")
}

func parseOptions(text string) map[string]string {
	var options map[string]string
	for part := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(part, "="); ok {
			if options == nil {
				options = map[string]string{}
			}
			options[key] = value
		}
	}
	return options
}

// Tune implements [storage.Tuner].
func (d *driver) Tune(ctx context.Context, v storage.Volume, options map[string]string) error {
	return wrapf(missing(d.tune(ctx, d.dataset(v), options), v), "set options of volume %s", v)
}

func (d *driver) tune(ctx context.Context, dataset string, options map[string]string) error {
	props, err := checkOptions(options)
	if err != nil {
		return err
	}
	known := d.facts.of(dataset)
	if formatOptions(known.options) == formatOptions(options) {
		return nil
	}
	before, err := checkOptions(known.options)
	if err != nil {
		before = nil // Of a later version, perhaps.
	}
	if err := drop(ctx, dataset, before, props); err != nil {
		return err
	}
	if err := d.setLimitAgain(ctx, dataset, known, options, props); err != nil {
		return err
	}
	props[optionsProp] = formatOptions(options)
	if err := setProperties(ctx, dataset, props); err != nil {
		return err
	}
	d.facts.update(dataset, func(f *fact) { f.options = maps.Clone(options) })
	return nil
}

// drop has a dataset inherit those properties again that are no longer set.
func drop(ctx context.Context, dataset string, before, now map[string]string) error {
	for name := range before {
		if _, kept := now[name]; kept {
			continue
		}
		if _, err := zfs(ctx, "inherit", name, dataset); err != nil {
			return err
		}
	}
	return nil
}

// setLimitAgain adds to props what a limit becomes if the options that say how
// it counts change.
func (d *driver) setLimitAgain(ctx context.Context, dataset string, known fact, options, props map[string]string) error {
	if !known.limited || truth(known.options[refquotaKey]) == truth(options[refquotaKey]) &&
		truth(known.options[reserveKey]) == truth(options[reserveKey]) {
		return nil
	}
	all, err := rows(ctx, "get", "-H", "-p", "-o", "value", "quota,refquota", dataset)
	if err != nil {
		return err
	}
	var size int64
	for _, row := range all {
		n, err := strconv.ParseInt(row[0], 10, 64)
		if err == nil {
			size = max(size, n)
		}
	}
	maps.Copy(props, limitProperties(size, options))
	return nil
}

// setProperties sets properties at once.
func setProperties(ctx context.Context, dataset string, props map[string]string) error {
	set := []string{"set"}
	for _, name := range slices.Sorted(maps.Keys(props)) {
		set = append(set, name+"="+props[name])
	}
	_, err := zfs(ctx, append(set, dataset)...)
	return err
}

// limitProperties returns the properties of a volume with a limit, 0 for none.
func limitProperties(size int64, options map[string]string) map[string]string {
	text := "none"
	if size > 0 {
		text = strconv.FormatInt(size, 10)
	}
	limit, other := "quota", "refquota"
	if truth(options[refquotaKey]) {
		limit, other = other, limit
	}
	props := map[string]string{limit: text, other: "none"}
	reserve, otherReserve := "reservation", "refreservation"
	if limit == "refquota" {
		reserve, otherReserve = otherReserve, reserve
	}
	props[reserve], props[otherReserve] = "none", "none"
	if truth(options[reserveKey]) {
		props[reserve] = text
	}
	return props
}

// Limit implements [storage.Limiter]. With zfs.use_refquota it counts all that
// the volume refers to, as the guest sees it; without, what the volume and its
// snapshots occupy beyond what they share with others.
func (d *driver) Limit(ctx context.Context, v storage.Volume, size int64) error {
	dataset := d.dataset(v)
	known := d.facts.of(dataset)
	if size <= 0 && !known.limited {
		return nil
	}
	err := setProperties(ctx, dataset, limitProperties(size, known.options))
	switch {
	case says(err, "less than current used"):
		used := "refer"
		if !truth(known.options[refquotaKey]) {
			used = "used"
		}
		now, _ := zfs(ctx, "get", "-H", "-o", "value", strings.Replace(used, "refer", "referenced", 1), dataset)
		return errs.Invalidf("size %s: volume %s holds %s already; give more, or remove files or snapshots", units.FormatBytes(size), v, now)
	case says(err, "out of space"), says(err, "size is greater than available space"):
		return errs.Newf(errs.Unavailable, "size %s: the pool has no room to reserve that", units.FormatBytes(size))
	case err != nil:
		return wrapf(missing(err, v), "limit volume %s", v)
	}
	d.facts.update(dataset, func(f *fact) { f.limited = size > 0 })
	return nil
}

// Usage implements [storage.Driver]. It is as of the last time when ZFS wrote
// out what it had, which is every few seconds, and whenever a volume is
// unmounted.
func (d *driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	used := int64(0)
	get := func(name string) error {
		all, err := rows(ctx, "list", "-H", "-p", "-t", "filesystem,snapshot", "-o", counted, name)
		if err == nil && len(all) > 0 {
			used, err = countOf(v, all[0])
		}
		return err
	}
	mounts.Settle()
	err := d.onSnapshot(ctx, v, get)
	return used, wrapf(missing(err, v), "usage of volume %s", v)
}

// Space implements [storage.Spacer].
func (d *driver) Space(ctx context.Context) (storage.Space, error) {
	all, err := rows(ctx, "list", "-H", "-p", "-o", "used,available", d.root)
	if isMissing(err) {
		return storage.Space{}, gone(d.root)
	}
	if err != nil || len(all) != 1 || len(all[0]) != 2 {
		return storage.Space{}, wrapf(err, "room of dataset %q", d.root)
	}
	used, err := strconv.ParseUint(all[0][0], 10, 64)
	if err != nil {
		return storage.Space{}, err
	}
	free, err := strconv.ParseUint(all[0][1], 10, 64)
	return storage.Space{UsedBytes: used, TotalBytes: used + free, FreeBytes: free}, err
}

// Grow implements [storage.Grower] for pools on files.
func (d *driver) Grow(ctx context.Context, size int64) error {
	if d.image == "" {
		return errs.Invalidf("key %q: the pool is not on a file of its own", sizeKey)
	}
	st, err := os.Stat(d.image)
	if err != nil {
		return err
	}
	if st.Size() < size {
		if err := os.Truncate(d.image, size); err != nil {
			return err
		}
	}
	_, err = zpool(ctx, "online", "-e", d.zpool(), d.image)
	return wrapf(err, "grow zpool %s", d.zpool())
}

// Adjust implements [storage.Adjuster].
func (d *driver) Adjust(_ context.Context, changed map[string]string) error {
	for key, value := range changed {
		switch key {
		case cloneKey, exportKey:
			if value == "" {
				continue
			}
			if err := checkOption(key, value); err != nil {
				return err
			}
		case poolKey:
			return errs.Invalidf("key %q cannot change", key)
		}
	}
	if how, ok := changed[cloneKey]; ok {
		d.cloneCopy.Store(&how)
	}
	return nil
}
