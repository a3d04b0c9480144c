package zfs

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cuib/cuib/storage"
)

// What is tested without a kernel that has ZFS.
var (
	CheckVersion = checkVersion
	CheckOption  = checkOption
	ParseDiff    = parseDiff
	Pack         = pack
)

// Unpack returns the document of such parts.
func Unpack(parts []string) ([]byte, error) {
	props := map[string]string{}
	for i, part := range parts {
		props[fmt.Sprint(i)] = part
	}
	return unpack(props)
}

// Name returns the name of a volume in a pool in the dataset root.
func Name(root string, v storage.Volume) string { return place{root: root}.name(v) }

// VolumeOf is the inverse of Name.
func VolumeOf(root, name string) (storage.Volume, bool) { return place{root: root}.volume(name) }

// Begin reads the beginning of a stream, and returns all of it again.
func Begin(r io.Reader) (incremental bool, again []byte, err error) {
	b, err := readBegin(r)
	return b.incremental, bytes.Clone(b.raw), err
}

// Idle waits until all is done that drivers do in the background to the pool in
// the dataset root.
func Idle(ctx context.Context, root string) error { return background.wait(ctx, root) }

// LimitProperties returns the properties of a limit.
func LimitProperties(size int64, options map[string]string) map[string]string {
	return limitProperties(size, options)
}

// DestinationOf returns the place of a configuration.
func PlaceOf(cfg storage.Config) (root, disk string, err error) {
	p, err := placeOf(cfg)
	return p.root, p.disk(), err
}
