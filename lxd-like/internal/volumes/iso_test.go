package volumes_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
)

const sector = 2048

// both is a number in both byte orders, ECMA-119 7.3.3.
func both(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, n), n)
}

func both16(n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, n), n)
}

// entry is a directory record, ECMA-119 9.1.
func entry(name string, at, size uint32, flags byte) []byte {
	b := []byte{0, 0}
	b = append(append(b, both(at)...), both(size)...)
	b = append(b, 100, 1, 1, 0, 0, 0, 0, flags, 0, 0)
	b = append(append(b, both16(1)...), byte(len(name)))
	b = append(b, name...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

// disc is an ISO 9660 image with the file F, in which text is.
func disc(text string) []byte {
	const root, file, table = 20, 21, 18
	img := make([]byte, (file+1)*sector)
	at := func(sec, offset int, data []byte) { copy(img[sec*sector+offset:], data) }
	// The primary volume descriptor, ECMA-119 8.4, and the end of descriptors.
	at(16, 0, []byte("\x01CD001\x01"))
	at(16, 8, []byte(strings.Repeat(" ", 64)))
	at(16, 80, both(file+1))
	at(16, 120, both16(1))
	at(16, 124, both16(1))
	at(16, 128, both16(sector))
	at(16, 132, both(10))
	at(16, 140, binary.LittleEndian.AppendUint32(nil, table))
	at(16, 148, binary.BigEndian.AppendUint32(nil, table+1))
	at(16, 156, entry("\x00", root, sector, 2))
	at(16, 190, []byte(strings.Repeat(" ", 623)))
	at(16, 881, []byte{1})
	at(17, 0, []byte("\xffCD001\x01"))
	at(table, 0, []byte{1, 0, root, 0, 0, 0, 1, 0, 0, 0})
	at(table+1, 0, []byte{1, 0, 0, 0, 0, root, 0, 1, 0, 0})
	at(root, 0, bytes.Join([][]byte{
		entry("\x00", root, sector, 2), entry("\x01", root, sector, 2), entry("F.;1", file, uint32(len(text)), 0),
	}, nil))
	at(file, 0, []byte(text))
	return img
}

// TestAttachDisc shows what is on a disc, where the kernel can read discs.
func TestAttachDisc(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	typ, cfg := dir.Type(), storage.Config{Name: "p", Dir: t.TempDir(), Options: map[string]string{}}
	cfg, err := typ.Make(t.Context(), cfg)
	must(t, err)
	d, err := typ.Open(t.Context(), cfg)
	must(t, err)
	w.svc = &volumes.Service{
		DB: w.db, Dir: w.dir, Pools: onePool{d}, Instances: w.instances, Types: w.svc.Types, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler),
	}
	must(t, w.run(w.svc.ImportISO(t.Context(), "p", "disc", bytes.NewReader(disc("hello")))))
	must(t, w.run(w.svc.CreateSnapshot(t.Context(), ref("p", "disc"), api.StorageVolumeSnapshotsPost{Name: "s0"})))
	for _, source := range []string{"disc", "disc/s0"} {
		at, err := w.svc.Attach(t.Context(), "p", source, "c1", "cd")
		if known, rerr := os.ReadFile("/proc/filesystems"); rerr == nil && !strings.Contains(string(known), "iso9660") && err != nil {
			wantKind(t, err, errs.Unsupported, "load the module isofs")
			continue
		}
		must(t, err)
		text, err := os.ReadFile(filepath.Join(at, "f"))
		if err != nil || string(text) != "hello" {
			t.Errorf("%s: read %q, %v", source, text, err)
		}
		if err := os.WriteFile(filepath.Join(at, "g"), nil, 0o600); err == nil {
			t.Errorf("%s can be written", source)
		}
		must(t, w.svc.Detach(t.Context(), "p", source, "c1", "cd"))
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "discs", "p", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	must(t, w.svc.Delete(t.Context(), ref("p", "disc")))
}

// TestISODamaged imports discs that are cut off or have bits flipped, and an
// upload that breaks off. A disc is looked at when it is attached.
func TestISODamaged(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	if err := w.run(w.svc.ImportISO(t.Context(), "p", "broken", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)))); err == nil {
		t.Error("an upload that broke off was imported")
	}
	if all, err := w.pools["p"].List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("left are %v, %v", all, err)
	}
	whole := disc("hello")
	primary := 16 * sector
	flipped := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 0x55
		return b
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "cut off": whole[:primary], "cut off in a descriptor": whole[:primary+4], "cut off after it": whole[:primary+sector],
		"another magic": flipped(primary + 1), "another size of a block": flipped(primary + 128), "another root": flipped(primary + 158),
	} {
		vol := strings.ReplaceAll(name, " ", "-")
		must(t, w.run(w.svc.ImportISO(t.Context(), "p", vol, bytes.NewReader(data))))
		_, err := w.svc.Attach(t.Context(), "p", vol, "c1", "cd")
		switch {
		case err == nil:
			must(t, w.svc.Detach(t.Context(), "p", vol, "c1", "cd"))
		case !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported):
			t.Errorf("%s: %v", name, err)
		}
		must(t, w.svc.Delete(t.Context(), ref("p", vol)))
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "discs", "p", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
