package zfs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/zfs"
)

func TestNames(t *testing.T) {
	for want, v := range map[string]storage.Volume{
		"tank/cuib/containers/c1":                   {Kind: storage.Instance, Name: "c1"},
		"tank/cuib/containers/c1@snapshot-snap0":    {Kind: storage.Instance, Name: "c1", Snapshot: "snap0"},
		"tank/cuib/containers/:2Ecopy-1":            {Kind: storage.Instance, Name: ".copy-1"},
		"tank/cuib/images/0a1b":                     {Kind: storage.Image, Name: "0a1b"},
		"tank/cuib/custom/default_my:20data":        {Kind: storage.Custom, Name: "my data"},
		"tank/cuib/custom/default_a:3Ab:C3:BC:25":   {Kind: storage.Custom, Name: "a:bü%"},
		"tank/cuib/custom/default_:2E@snapshot-:40": {Kind: storage.Custom, Name: ".", Snapshot: "@"},
		"tank/cuib/custom/default_a:2Fb":            {Kind: storage.Custom, Name: "a/b"},
		"tank/cuib/custom/p.1_my:20data":            {Kind: storage.Custom, Name: "p.1%my data"},
		"tank/cuib/custom/p_a_b@snapshot-s0":        {Kind: storage.Custom, Name: "p%a_b", Snapshot: "s0"},
		"tank/cuib/custom/default_a_b:25c":          {Kind: storage.Custom, Name: "a_b%c"},
		"tank/cuib/custom/default_default:25c":      {Kind: storage.Custom, Name: "default%c"},
		"tank/cuib/containers/p_c1":                 {Kind: storage.Instance, Name: "p_c1"},
	} {
		if got := zfs.Name("tank/cuib", v); got != want {
			t.Errorf("%s is %q, want %q", v, got, want)
		}
		if got, ok := zfs.VolumeOf("tank/cuib", want); !ok || got != v {
			t.Errorf("%q is %v, %v", want, got, ok)
		}
	}
	if v, ok := zfs.VolumeOf("tank/cuib", "tank/cuib/containers/c1/.history-1@snapshot-a"); !ok || v.Snapshot != "a" || v.Name != "c1" {
		t.Errorf("a snapshot of the history is %v, %v", v, ok)
	}
	for _, name := range []string{
		"tank/cuib", "tank/cuib/containers", "tank/cuib/containers/c1@copy-1", "tank/cuib/containers/c1/.history-1", "tank/cuib/containers/c1/theirs",
		"tank/cuib/containers/c1/theirs@snapshot-a", "tank/cuib/custom/other", "tank/cuib/custom/:2E_a", "tank/cuib/deleted/containers/c1-1", "tank/cuib/staging/1", "tank/other/containers/c1",
		"tank/cuib/images/a@readonly",
	} {
		if v, ok := zfs.VolumeOf("tank/cuib", name); ok {
			t.Errorf("%q is the volume %v", name, v)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for v, want := range map[string]bool{"2.4.4-1": true, "2.2.0": true, "3.0.1": true, "": true, "from git": true, "2.1.11-1": false, "0.8.6": false} {
		if err := zfs.CheckVersion(v); (err == nil) != want || err != nil && !errs.Is(err, errs.Unsupported) {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestCheckOption(t *testing.T) {
	for option, want := range map[string]bool{
		"zfs.blocksize=16KiB": true, "zfs.blocksize=17KiB": false, "zfs.blocksize=256": false, "zfs.blocksize=1GiB": false, "zfs.blocksize=x": false,
		"zfs.compression=zstd-19": true, "zfs.compression=zstd-20": false, "zfs.compression=off": true, "zfs.compression=lz4-1": false, "zfs.compression=best": false,
		"zfs.use_refquota=true": true, "zfs.use_refquota=maybe": false, "zfs.reserve_space=no": true, "zfs.delegate=0": true, "zfs.delegate=true": true, "zfs.delegate=maybe": false, "zfs.remove_snapshots=false": true, "zfs.block_mode=false": true, "zfs.block_mode=maybe": false,
		"zfs.clone_copy=rebase": true, "zfs.clone_copy=x": false, "zfs.export=true": true, "zfs.pool_name=tank/cuib": true, "zfs.pool_name=tank//a": false,
		"zfs.pool_name=1a": false, "zfs.pool_name=a b": false, "zfs.pool_name=a/../b": false, "size=1": true,
	} {
		key, value, _ := strings.Cut(option, "=")
		if err := zfs.CheckOption(key, value); (err == nil) != want || err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), key)) {
			t.Errorf("%s: %v", option, err)
		}
	}
	if err := zfs.CheckOption("zfs.block_mode", "true"); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "datasets") {
		t.Errorf("a zvol: %v", err)
	}
	typ := zfs.Type()
	for key := range maps.Keys(typ.VolumeOptions) {
		if err := zfs.CheckOption(key, "no such value"); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s takes anything: %v", key, err)
		}
	}
}

func TestLimitProperties(t *testing.T) {
	const size = 10 << 20
	for _, tt := range []struct {
		size    int64
		options map[string]string
		want    map[string]string
	}{
		{size, nil, map[string]string{"quota": "10485760", "refquota": "none", "reservation": "none", "refreservation": "none"}},
		{0, nil, map[string]string{"quota": "none", "refquota": "none", "reservation": "none", "refreservation": "none"}},
		{size, map[string]string{"zfs.use_refquota": "true"}, map[string]string{"quota": "none", "refquota": "10485760", "reservation": "none", "refreservation": "none"}},
		{size, map[string]string{"zfs.use_refquota": "on", "zfs.reserve_space": "1"}, map[string]string{"quota": "none", "refquota": "10485760", "reservation": "none", "refreservation": "10485760"}},
		{size, map[string]string{"zfs.reserve_space": "true"}, map[string]string{"quota": "10485760", "refquota": "none", "reservation": "10485760", "refreservation": "none"}},
	} {
		if got := zfs.LimitProperties(tt.size, tt.options); !maps.Equal(got, tt.want) {
			t.Errorf("%d with %v: %v", tt.size, tt.options, got)
		}
	}
}

func TestPlaceOf(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	for name, tt := range map[string]struct {
		source, pool string
		root, disk   string
		kind         errs.Kind
	}{
		"a file of its own":       {root: "p", disk: filepath.Join(dir, "zfs.img")},
		"with another name":       {pool: "tank", root: "tank", disk: filepath.Join(dir, "zfs.img")},
		"a dataset for a file":    {pool: "tank/cuib", kind: errs.Invalid},
		"a file that is there":    {source: file, root: "p", disk: file},
		"a directory":             {source: dir, kind: errs.Invalid},
		"a device that is not":    {source: "/dev/none/such", kind: errs.Unavailable},
		"a zpool":                 {source: "tank", root: "tank"},
		"a dataset":               {source: "tank/a/b", root: "tank/a/b"},
		"no name of a dataset":    {source: "tank/", kind: errs.Invalid},
		"an option":               {source: "-f", kind: errs.Invalid},
		"a snapshot":              {source: "tank@a", kind: errs.Invalid},
		"a relative path upwards": {source: "../tank", kind: errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storage.Config{Name: "p", Dir: dir, Source: tt.source, Options: map[string]string{"zfs.pool_name": tt.pool}}
			root, disk, err := zfs.PlaceOf(cfg)
			if tt.kind != errs.Internal {
				if !errs.Is(err, tt.kind) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || root != tt.root || disk != tt.disk {
				t.Errorf("got %q, %q, %v", root, disk, err)
			}
		})
	}
}

func TestParseDiff(t *testing.T) {
	const text = "+\t/mnt/a/d/g\\0040h\n" +
		"M\t/mnt/a/\n" +
		"-\t/mnt/a/gone\n" +
		"R\t/mnt/a/old\t/mnt/a/new\n" +
		"M\t/mnt/a/linked\t(+1)\n" +
		"+\t/mnt/a/\\0303\\0274\\0134\\0012\n"
	got, err := zfs.ParseDiff(strings.NewReader(text), "/mnt/a")
	ok(t, err)
	want := map[string]bool{".": false, "d/g h": true, "gone": false, "old": true, "new": true, "linked": false, "ü\\\n": true}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := zfs.ParseDiff(strings.NewReader("nonsense\n"), "/mnt/a"); err == nil {
		t.Error("nonsense was taken")
	}
}

func TestRecordParts(t *testing.T) {
	long := make([]byte, 100_000)
	for i := range long {
		long[i] = byte(i * i >> 3)
	}
	for _, doc := range [][]byte{{}, []byte("name: c1\n"), long, bytes.Repeat([]byte("name: c1\n"), 100_000)} {
		parts, err := zfs.Pack(doc)
		ok(t, err)
		for _, part := range parts {
			if len(part) > 8191 || strings.ContainsAny(part, "\t\n") {
				t.Errorf("a part has %d bytes", len(part))
			}
		}
		got, err := zfs.Unpack(append(slices.Clone(parts), "left over"))
		if err != nil || !bytes.Equal(got, doc) {
			t.Errorf("%d bytes became %d, %v", len(doc), len(got), err)
		}
		parts[len(parts)-1] += "AAAA"
		parts[0] = strings.Replace(parts[0], "a", "b", 1)
		if _, err := zfs.Unpack(parts); err == nil && strings.Contains(parts[0], "b") {
			t.Errorf("damage to %d bytes was not seen", len(doc))
		}
	}
	if doc, err := zfs.Unpack(nil); doc != nil || err != nil {
		t.Errorf("no record is %q, %v", doc, err)
	}
	for _, head := range []string{"", "x", "-1 a", "1000000 a"} {
		if _, err := zfs.Unpack([]string{head}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func TestBeginning(t *testing.T) {
	begin := func(order binary.ByteOrder, kind, from uint64) []byte {
		b := make([]byte, 400)
		order.PutUint64(b[8:], 0x2F5bacbac)
		order.PutUint64(b[16:], kind)
		order.PutUint64(b[48:], from)
		return b
	}
	for i, tt := range []struct {
		stream            []byte
		incremental, fine bool
	}{
		{begin(binary.LittleEndian, 1, 0), false, true},
		{begin(binary.LittleEndian, 1|4<<2, 7), true, true},
		{begin(binary.BigEndian, 1, 7), true, true},
		{begin(binary.LittleEndian, 2, 0), false, false},
		{make([]byte, 400), false, false},
		{[]byte("short"), false, false},
		{nil, false, false},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			incremental, again, err := zfs.Begin(bytes.NewReader(tt.stream))
			switch {
			case !tt.fine:
				if !errs.Is(err, errs.Invalid) {
					t.Errorf("got %v", err)
				}
			case err != nil || incremental != tt.incremental || !bytes.HasPrefix(tt.stream, again):
				t.Errorf("got %v, %v", incremental, err)
			}
		})
	}
}

func FuzzBeginning(f *testing.F) {
	f.Add([]byte("a stream"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, again, err := zfs.Begin(bytes.NewReader(data)); err == nil && !bytes.HasPrefix(data, again) {
			t.Error("it is not what was read")
		}
	})
}
