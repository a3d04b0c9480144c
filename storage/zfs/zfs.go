// Package zfs keeps volumes as datasets of OpenZFS, in a pool on a file of its
// own or on a block device, or in a dataset of a pool that is there. It runs
// the programs zfs and zpool: one of them for each change that is one for ZFS
// too.
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
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/storage"
)

// Keys of a pool.
const (
	sizeKey   = "size"
	wipeKey   = "source.wipe"
	poolKey   = "zfs.pool_name"
	cloneKey  = "zfs.clone_copy"
	exportKey = "zfs.export"
)

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:  check,
		Make:   makePool,
		Adopt:  adopt,
		Open:   open,
		Remove: remove,
		Options: map[string]string{
			poolKey:   "The zpool to make, by default that of the pool's name; or the dataset of one that is there, as source.",
			cloneKey:  "How copies are made: true for clones, which share what is the same; false for whole ones; rebase for clones of the image that both come from.",
			exportKey: "Whether a zpool that was made for the pool is exported, and not destroyed, when the pool is deleted; false if not set. It is never exported when the daemon ends: instances go on.",
			wipeKey:   "Whether what is on the source, a device, may be lost.",
		},
		VolumeOptions: map[string]string{
			blockKey:     "The largest block of files written from now on (recordsize), such as 16KiB; 128KiB if not set.",
			compressKey:  "How what is written from now on is compressed: on, off, lz4, zstd, zstd-1 to zstd-19, gzip, gzip-1 to gzip-9, lzjb or zle; as the pool does if not set.",
			refquotaKey:  "Whether the size counts what the volume refers to (refquota), and not what it and its snapshots occupy (quota).",
			reserveKey:   "Whether the size is reserved in the pool.",
			delegateKey:  "Whether the guests of instances may have datasets of their own. Custom volumes have it without effect.",
			removeKey:    "Accepted, and without effect: whether a restore may remove newer snapshots. Here none does, it keeps them.",
			blockModeKey: "Only false: a volume is a dataset, never a file system on a block device (zvol), whose files ZFS could not limit, compare or share.",
		},
		CheckOption: checkOption,
		Version:     version,
	}
}

// moduleVersion is the file that has the version of the kernel's module.
const moduleVersion = "/sys/module/zfs/version"

// The first OpenZFS with idmapped mounts.
const (
	leastMajor = 2
	leastMinor = 2
)

func check(ctx context.Context) error {
	for _, name := range []string{"zfs", "zpool"} {
		if err := run.Look(name, "zfsutils-linux"); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/dev/zfs"); errors.Is(err, fs.ErrNotExist) {
		// The programs would load it, too; but without a good reason if it fails.
		if _, err := run.Cmd(ctx, "modprobe", "zfs"); err != nil {
			return errs.Newf(errs.Unsupported, "the kernel has no ZFS: /dev/zfs is missing, and the module zfs cannot be loaded; install zfs-dkms: %w", err)
		}
	}
	return checkVersion(readVersion())
}

// checkVersion refuses a module without idmapped mounts: the files of a
// volume would not belong to its guest.
func checkVersion(v string) error {
	major, minor, release := numbers(v)
	if release && (major < leastMajor || major == leastMajor && minor < leastMinor) {
		return errs.Newf(errs.Unsupported, "the kernel's ZFS is OpenZFS %s, which has no idmapped mounts: %d.%d or newer is needed", v, leastMajor, leastMinor)
	}
	return nil
}

// numbers returns the first two of a version, if it is that of a release.
func numbers(v string) (major, minor int, release bool) {
	first, rest, _ := strings.Cut(v, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return major, minor, err == nil && err2 == nil
}

// readVersion returns the version of the module, such as "2.3.2-2", and an
// empty string if it is not loaded.
func readVersion() string {
	text, err := os.ReadFile(moduleVersion)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func version(context.Context) string { return readVersion() }

// oneOf returns an error that names the allowed values unless value is one.
func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return errs.Invalidf("key %q: %q is not one of %s", key, value, strings.Join(allowed, ", "))
}

func isBool(key, value string) error {
	return oneOf(key, value, "true", "false", "1", "0", "yes", "no", "on", "off")
}

func truth(value string) bool {
	switch strings.ToLower(value) {
	case "true", "1", "yes", "on":
		return true
	}
	return false
}

func checkOption(key, value string) error {
	switch key {
	case cloneKey:
		return oneOf(key, value, "true", "false", "rebase")
	case exportKey, wipeKey:
		return isBool(key, value)
	case poolKey:
		return checkDataset(key, value)
	case blockKey, compressKey, refquotaKey, reserveKey, delegateKey, removeKey, blockModeKey:
		_, err := propertiesOf(key, value)
		return err
	}
	return nil
}

// checkDataset refuses what is no name of a zpool, or of a dataset in one.
func checkDataset(key, name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.Trim(part, nameChars) != "" {
			return errs.Invalidf("key %q: %q is no name of a zpool or dataset", key, name)
		}
	}
	first := name[0]
	if first < 'A' || first > 'z' || first > 'Z' && first < 'a' {
		return errs.Invalidf("key %q: %q does not begin with a letter", key, name)
	}
	return nil
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

// wrapf adds what was tried to an error.
func wrapf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
