package btrfs

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
)

// uuidKey is the pool key that keeps the id of the file system on a device,
// whose name can be another after the host's next start.
const uuidKey = "volatile.uuid"

// Where the superblock is and what it has, from the on-disk format.
const (
	superOffset = 64 << 10
	superID     = 0x20
	superMagic  = 0x40
	magic       = "_BHRfS_M"
)

// idOf returns the id of the file system on a device or file, an empty string
// if it has none of this kind.
func idOf(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var super [superMagic + len(magic)]byte
	_, err = f.ReadAt(super[:], superOffset)
	if errors.Is(err, io.EOF) {
		return "", nil
	}
	if err != nil || string(super[superMagic:]) != magic {
		return "", err
	}
	id := hex.EncodeToString(super[superID : superID+16])
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], nil
}

// deviceOf returns the device that a pool's file system is on now.
func deviceOf(cfg storage.Config) (string, error) {
	want := cfg.Options[uuidKey]
	id, err := idOf(cfg.Source)
	if want == "" || err == nil && id == want {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOMEDIUM) {
			err = errs.Newf(errs.Unavailable, "the device %s is not there", cfg.Source)
		}
		return cfg.Source, err
	}
	if device := findDevice(want); device != "" {
		return device, nil
	}
	if err == nil {
		return "", errs.Newf(errs.Unavailable, "%s holds another file system than the pool's, which is %s and on no other device", cfg.Source, want)
	}
	return "", errs.Newf(errs.Unavailable, "the device %s is not there, nor another with the file system %s", cfg.Source, want)
}

// findDevice looks at all block devices for a file system.
func findDevice(id string) string {
	links := []string{filepath.Join("/dev/disk/by-uuid", id)}
	blocks, _ := filepath.Glob("/sys/class/block/*") // The pattern is a good one.
	for _, b := range blocks {
		links = append(links, filepath.Join("/dev", filepath.Base(b)))
	}
	for _, path := range links {
		if got, err := idOf(path); err == nil && got == id {
			return path
		}
	}
	return ""
}

// free returns an error that names who uses a device, if somebody does.
func free(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	return busy(device, errs.Conflictf("the device %s is in use", device))
}

// busy adds to err who has the device mounted.
func busy(device string, err error) error {
	number, nerr := mounts.DeviceOf(device)
	if nerr != nil {
		return err
	}
	match := func(i mounts.Info) bool { return i.Source == device || i.Device == number }
	holders, herr := mounts.Holders(match)
	if herr == nil && len(holders) > 0 {
		return errs.Conflictf("%w by %s", err, mounts.Names(holders))
	}
	return err
}
