package btrfs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

func TestNodesOfPool(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	if os.Getpagesize() > 4096 {
		t.Skip("nodes are as large as pages")
	}
	for options, want := range map[string]uint32{"": 4096, "-n 16k": 16384} {
		cfg := makePool(t, onFile(t, map[string]string{"size": "300MiB", "btrfs.create_options": options}))
		if got := nodeSize(t, filepath.Join(cfg.Dir, "btrfs.img")); got != want {
			t.Errorf("with options %q nodes have %d bytes, want %d", options, got, want)
		}
	}
}

// nodeSize returns the size of the nodes of the file system in a file.
func nodeSize(t *testing.T, path string) uint32 {
	t.Helper()
	f, err := os.Open(path)
	ok(t, err)
	defer f.Close()
	var size [4]byte
	_, err = f.ReadAt(size[:], 64<<10+0x94) // In the superblock.
	ok(t, err)
	return binary.LittleEndian.Uint32(size[:])
}

// TestSnapshotWrites has a snapshot beside many write little more than beside
// few. With nodes of the size that mkfs.btrfs has by itself it is six times as much.
func TestSnapshotWrites(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	if os.Getpagesize() > 4096 {
		t.Skip("nodes are as large as pages")
	}
	cfg := makePool(t, storage.Config{Name: "p", Dir: filepath.Join(testenv.MemoryDir(t), "p"), Options: map[string]string{"size": "600MiB"}})
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	for i := range 2000 { // So small that their contents are in the tree.
		ok(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), bytes.Repeat([]byte{'x'}, 2000), 0o600))
	}
	ok(t, d.Unmount(t.Context(), c1))
	at, err := mounts.Find(filepath.Join(cfg.Dir, "data"))
	ok(t, err)
	stat := filepath.Join("/sys/block", filepath.Base(at.Source), "stat")
	n := 0
	snapshots := func(until int) int {
		t.Helper()
		began, before := n, writtenKiB(t, stat)
		for ; n < until; n++ {
			ok(t, d.Snapshot(t.Context(), storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: fmt.Sprint("s", n)}))
		}
		return (writtenKiB(t, stat) - before) / (n - began)
	}
	snapshots(1) // And the files with it.
	few := snapshots(20)
	snapshots(190)
	many := snapshots(210)
	t.Logf("a snapshot beside few writes %d KiB, beside 200 %d", few, many)
	if many > 1024 {
		t.Errorf("a snapshot beside 200 writes %d KiB, beside few %d", many, few)
	}
}

// writtenKiB returns how much was written to a device.
func writtenKiB(t *testing.T, stat string) int {
	t.Helper()
	const sectors = 6 // See Documentation/block/stat.rst of the kernel.
	data, err := os.ReadFile(stat)
	ok(t, err)
	n, err := strconv.Atoi(strings.Fields(string(data))[sectors])
	ok(t, err)
	return n / 2
}

// TestMeasureMany has all of many volumes be measured, as each is alone.
func TestMeasureMany(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	d := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")}).Driver
	m, isMeter := d.(storage.Meter)
	l, isLimiter := d.(storage.Limiter)
	if !isMeter || !isLimiter {
		t.Fatal("the driver measures or limits nothing")
	}
	ok(t, d.Create(t.Context(), c1))
	volumes := []storage.Volume{c1, {Kind: c1.Kind, Name: "gone"}}
	for i := range 130 { // Two and a half answers of the kernel.
		s := storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: fmt.Sprint("s", i)}
		ok(t, d.Snapshot(t.Context(), s))
		volumes = append(volumes, s)
	}
	got, err := m.Measure(t.Context(), volumes)
	ok(t, err)
	if len(got) != 0 {
		t.Errorf("without quotas %d volumes are measured", len(got))
	}
	ok(t, l.Limit(t.Context(), c1, 100<<20))
	testenv.Run(t, "btrfs", "filesystem", "sync", mnt)
	got, err = m.Measure(t.Context(), volumes)
	ok(t, err)
	for _, v := range volumes {
		want, err := d.Usage(t.Context(), v)
		if bytes, known := got[v]; known != (err == nil) || known && bytes != want {
			t.Errorf("%s: measured %d, %t; want %d, %v", v, bytes, known, want, err)
		}
	}
}
