package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// RunStreamer tests a driver that is a [storage.Streamer], between the pools
// that open returns.
func RunStreamer(t *testing.T, open func(t *testing.T) Pool) {
	t.Helper()
	for _, tt := range []struct {
		name string
		fn   func(*testing.T, streamPools)
	}{
		{"a volume with snapshots is sent", testSend},
		{"a volume in use is sent", testSendMounted},
		{"a snapshot is received as a volume", testSendSnapshot},
		{"what was received is like any volume", testReceivedLives},
		{"nothing is seen before commit", testReceiveUnseen},
		{"aborting leaves nothing", testReceiveAborted},
		{"a crash before commit leaves nothing", testReceiveCrash},
		{"a volume gets what is new", testReceiveMore},
		{"a volume that gets what is new keeps its snapshots", testReceiveKeeps},
		{"aborting leaves the volume as it was", testReceiveMoreAborted},
		{"there and back again", testSendBack},
		{"a base that is not there", testReceiveNoBase},
		{"a volume that is mounted", testReceiveMounted},
		{"a stream that is cut off", testReceiveCutOff},
		{"a stream that is damaged", testReceiveDamaged},
		{"a stream that is none", testReceiveGarbage},
		{"sending ends with an error", testSendEnds},
		{"what does not exist is not sent", testSendMissing},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.fn(t, streamPools{open(t), open(t)}) })
	}
}

// streamPools are those that a stream goes from and to.
type streamPools struct{ from, to Pool }

func streamer(t *testing.T, d storage.Driver) storage.Streamer {
	t.Helper()
	s, is := d.(storage.Streamer)
	if !is {
		t.Fatal("it is no Streamer")
	}
	return s
}

func snapOf(v storage.Volume, name string) storage.Volume {
	v.Snapshot = name
	return v
}

// FillSource makes instance/c1 with the snapshots s0, s1 and s2.
func FillSource(t *testing.T, p Pool) {
	t.Helper()
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		before(t, dir)
		if !p.Plain {
			ok(t, os.Mkdir(filepath.Join(dir, "kinds"), 0o755))
			plant(t, filepath.Join(dir, "kinds"))
			plantOdd(t, filepath.Join(dir, "kinds"))
		}
	})
	ok(t, d.Clone(t.Context(), c1, img))
	ok(t, d.Snapshot(t.Context(), snapOf(c1, "s0")))
	in(t, d, c1, func(dir string) { after(t, dir) })
	ok(t, d.Snapshot(t.Context(), snapOf(c1, "s1")))
	ok(t, d.Snapshot(t.Context(), snapOf(c1, "s2")))
	in(t, d, c1, func(dir string) {
		ok(t, os.RemoveAll(filepath.Join(dir, "same")))
		ok(t, os.WriteFile(filepath.Join(dir, "head"), []byte("head"), 0o600))
	})
}

// send returns the stream of v.
func send(t *testing.T, d storage.Driver, v storage.Volume, base string) []byte {
	t.Helper()
	var buf bytes.Buffer
	ok(t, streamer(t, d).Send(t.Context(), &buf, v, base))
	return buf.Bytes()
}

// next receives what is sent of a volume's state as it is sent.
func next(ctx context.Context, d storage.Streamer, r storage.Receiver, v storage.Volume, base string) error {
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := d.Send(ctx, pw, v, base)
		sent <- err
		_ = pw.CloseWithError(err) // It never fails.
	}()
	err := r.Next(ctx, pr, v.Snapshot, base)
	_ = pr.Close() // It never fails.
	return errors.Join(err, <-sent)
}

// receiveStates begins to receive states of c1 as v.
func receiveStates(t *testing.T, p streamPools, v storage.Volume, states ...[2]string) storage.Receiver {
	t.Helper()
	r, err := streamer(t, p.to.Driver).Receive(t.Context(), v)
	ok(t, err)
	for _, s := range states {
		ok(t, next(t.Context(), streamer(t, p.from.Driver), r, snapOf(c1, s[0]), s[1]))
	}
	return r
}

// receiveAll makes v what c1 is.
func receiveAll(t *testing.T, p streamPools, v storage.Volume) {
	t.Helper()
	r := receiveStates(t, p, v, [2]string{"s0", ""}, [2]string{"s1", "s0"}, [2]string{"s2", "s1"}, [2]string{"", "s2"})
	ok(t, r.Commit(t.Context()))
	ok(t, r.Abort(t.Context()))
}

// wantEqual checks that states of v are those of c1.
func wantEqual(t *testing.T, p streamPools, v storage.Volume, names ...string) {
	t.Helper()
	for _, name := range names {
		WantSame(t, State{p.to.Driver, snapOf(v, name)}, State{p.from.Driver, snapOf(c1, name)})
	}
}

// A State is a volume or a snapshot.
type State struct {
	Driver storage.Driver
	Volume storage.Volume
}

// WantSame checks that all of two states is alike but for access times.
func WantSame(t *testing.T, got, want State) {
	t.Helper()
	a, b := Describe(t, got.Driver, got.Volume), Describe(t, want.Driver, want.Volume)
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("%s has %s", got.Volume, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("%s lacks %s", got.Volume, line)
		}
	}
}

// Describe returns all that can be known of the files of a state.
func Describe(t *testing.T, d storage.Driver, v storage.Volume) (lines []string) {
	t.Helper()
	in(t, d, v, func(root string) {
		links := map[uint64]string{}
		ok(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			lines = append(lines, describe(t, path, rel, links))
			return err
		}))
	})
	return lines
}

func describe(t *testing.T, path, rel string, links map[uint64]string) string {
	t.Helper()
	st := stat(t, path)
	line := fmt.Sprintf("%q mode %o owner %d:%d time %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f, err := os.Open(path)
		ok(t, err)
		defer f.Close()
		sum := crc32.New(crc32.MakeTable(crc32.Castagnoli)) // Quick.
		_, err = io.Copy(sum, f)
		ok(t, err)
		line += fmt.Sprintf(" %d bytes %x", st.Size, sum.Sum(nil))
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		ok(t, err)
		line += fmt.Sprintf(" to %q", to)
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" device %d", st.Rdev)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if _, ok := links[st.Ino]; !ok {
			links[st.Ino] = rel
		}
		line += fmt.Sprintf(" link of %q", links[st.Ino])
	}
	return line + xattrs(t, path)
}

func xattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return ""
	}
	ok(t, err)
	var all []string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		ok(t, err)
		all = append(all, fmt.Sprintf(" %s=%x", name, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

func testSend(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveAll(t, p, c2)
	wantList(t, p.to.Driver, c2, snapOf(c2, "s0"), snapOf(c2, "s1"), snapOf(c2, "s2"))
	wantEqual(t, p, c2, "s0", "s1", "s2", "")
	if !p.to.Plain {
		in(t, p.to.Driver, c2, func(dir string) {
			if st := stat(t, filepath.Join(dir, "kinds/sparse")); st.Blocks > 1000 {
				t.Errorf("a file of holes occupies %d blocks", st.Blocks)
			}
		})
	}
	wantList(t, p.from.Driver, img, c1, snapOf(c1, "s0"), snapOf(c1, "s1"), snapOf(c1, "s2"))
}

func testSendMounted(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	d := p.from.Driver
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "while"), []byte("in use"), 0o600))
	r := receiveStates(t, p, c2, [2]string{"s1", ""}, [2]string{"", "s1"})
	ok(t, r.Commit(t.Context()))
	ok(t, os.WriteFile(filepath.Join(dir, "while"), []byte("in use still"), 0o600))
	in(t, p.to.Driver, c2, func(dir string) {
		if data, err := os.ReadFile(filepath.Join(dir, "while")); err != nil || string(data) != "in use" {
			t.Errorf("got %q, %v", data, err)
		}
	})
	ok(t, d.Unmount(t.Context(), c1))
	wantEqual(t, p, c2, "s1")
}

func testSendSnapshot(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
	ok(t, err)
	ok(t, r.Next(t.Context(), bytes.NewReader(send(t, p.from.Driver, snapOf(c1, "s1"), "")), "", ""))
	ok(t, r.Commit(t.Context()))
	wantList(t, p.to.Driver, c2)
	WantSame(t, State{p.to.Driver, c2}, State{p.from.Driver, snapOf(c1, "s1")})
	write(t, p.to.Driver, c2, "writable")
}

func testReceivedLives(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	d := p.to.Driver
	receiveAll(t, p, c2)
	write(t, d, c2, "written")
	ok(t, d.Snapshot(t.Context(), snapOf(c2, "own")))
	ok(t, d.Clone(t.Context(), c3, snapOf(c2, "s1")))
	WantSame(t, State{d, c3}, State{p.from.Driver, snapOf(c1, "s1")})
	ok(t, d.Restore(t.Context(), snapOf(c2, "s0")))
	wantFile(t, d, snapOf(c2, "own"), "written")
	ok(t, d.Rename(t.Context(), c2, "c4"))
	c4 := storage.Volume{Kind: c2.Kind, Name: "c4"}
	WantSame(t, State{d, c4}, State{p.from.Driver, snapOf(c1, "s0")})
	d = p.to.Reopen(t)
	for _, name := range []string{"s1", "s0", "own", "s2", ""} {
		ok(t, d.Delete(t.Context(), snapOf(c4, name)))
	}
	WantSame(t, State{d, c3}, State{p.from.Driver, snapOf(c1, "s1")})
	ok(t, d.Delete(t.Context(), c3))
	wantList(t, d)
	wantBare(t, p.to)
}

// wantBare checks that a pool without volumes holds nothing.
func wantBare(t *testing.T, p Pool) {
	t.Helper()
	if _, err := os.Stat(p.Dir); p.Dir == "" || err != nil {
		return
	}
	for _, path := range walk(t, p.Dir) {
		if strings.Count(path, "/") > 2 || strings.HasPrefix(path, "staging/") || strings.HasPrefix(path, "layers/") {
			t.Errorf("left behind: %s", path)
		}
	}
}

func testReceiveUnseen(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	r := receiveStates(t, p, c2, [2]string{"s0", ""}, [2]string{"", "s0"})
	wantList(t, p.to.Driver)
	ok(t, p.to.Driver.Create(t.Context(), c2)) // Somebody is faster.
	wantKind(t, r.Commit(t.Context()), errs.Conflict)
	ok(t, r.Abort(t.Context()))
	wantList(t, p.to.Driver, c2)
	ok(t, p.to.Driver.Delete(t.Context(), c2))
	wantBare(t, p.to)
}

func testReceiveAborted(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	r := receiveStates(t, p, c2, [2]string{"s0", ""}, [2]string{"s1", "s0"})
	ok(t, r.Abort(t.Context()))
	wantList(t, p.to.Driver)
	wantBare(t, p.to)
	receiveAll(t, p, c2)
	wantEqual(t, p, c2, "s0", "s1", "s2", "")
}

func testReceiveCrash(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveStates(t, p, c2, [2]string{"s0", ""}, [2]string{"s1", "s0"})
	p.to.Driver = p.to.Reopen(t)
	sweep(t, p.to.Driver)
	wantList(t, p.to.Driver)
	wantBare(t, p.to)
	receiveAll(t, p, c2)
	wantEqual(t, p, c2, "s0", "s1", "s2", "")
}

// plantOdd makes what plant does not.
func plantOdd(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	ok(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	ok(t, unix.Mknod(at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))))
	ok(t, unix.Mkfifo(at("fifo-of-user"), 0o600))
	ok(t, os.Lchown(at("fifo-of-user"), 1<<31, 65534))
	ok(t, os.Symlink(strings.Repeat("x", 1000), at("long-link")))
	ok(t, os.WriteFile(at(strings.Repeat("n", 255)), nil, 0o000))
	ok(t, os.Mkdir(at("acl"), 0o750))
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Setxattr(at("acl"), name, []byte(acl), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			t.Fatal(err)
		}
	}
	ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("acl"), []unix.Timespec{{Sec: 3}, {Sec: -4, Nsec: 5}}, 0))
}

// acl gives the user 1000 more than others: version, then tag, rights and id
// of each entry.
const acl = "\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
	"\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"

// ChangeSource changes what [FillSource] made, and makes the snapshot s3.
func ChangeSource(t *testing.T, d storage.Driver) {
	t.Helper()
	write(t, d, c1, "three")
	ok(t, d.Snapshot(t.Context(), snapOf(c1, "s3")))
	in(t, d, c1, func(dir string) { ok(t, os.Remove(filepath.Join(dir, "mode"))) })
}

func testReceiveMore(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveAll(t, p, c2)
	ChangeSource(t, p.from.Driver)
	write(t, p.to.Driver, c2, "of the target")
	for range 2 {
		r := receiveStates(t, p, c2, [2]string{"s3", "s2"}, [2]string{"", "s3"})
		wantFile(t, p.to.Driver, c2, "of the target")
		ok(t, r.Commit(t.Context()))
		ok(t, r.Abort(t.Context()))
		wantEqual(t, p, c2, "s0", "s1", "s2", "s3", "")
		wantList(t, p.to.Driver, c2, snapOf(c2, "s0"), snapOf(c2, "s1"), snapOf(c2, "s2"), snapOf(c2, "s3"))
		ok(t, p.to.Driver.Delete(t.Context(), snapOf(c2, "s3")))
		write(t, p.to.Driver, c2, "of the target")
	}
	r := receiveStates(t, p, c2, [2]string{"", "s2"})
	ok(t, r.Commit(t.Context()))
	wantEqual(t, p, c2, "s0", "s1", "s2", "")
	for _, name := range []string{"s0", "s1", "s2", ""} {
		ok(t, p.to.Driver.Delete(t.Context(), snapOf(c2, name)))
	}
	wantBare(t, p.to)
}

func testReceiveKeeps(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveAll(t, p, c2)
	write(t, p.to.Driver, c2, "own")
	own := snapOf(c2, "own")
	ok(t, p.to.Driver.Snapshot(t.Context(), own))
	ChangeSource(t, p.from.Driver)
	r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
	ok(t, err)
	err = next(t.Context(), streamer(t, p.from.Driver), r, snapOf(c1, "s3"), "s2")
	if errs.Is(err, errs.Unsupported) { // Some take only what builds on the newest.
		ok(t, r.Abort(t.Context()))
		wantFile(t, p.to.Driver, c2, "own")
		return
	}
	ok(t, err)
	ok(t, next(t.Context(), streamer(t, p.from.Driver), r, c1, "s3"))
	ok(t, r.Commit(t.Context()))
	wantFile(t, p.to.Driver, own, "own")
	wantEqual(t, p, c2, "s0", "s1", "s2", "s3", "")
}

func testReceiveMoreAborted(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveAll(t, p, c2)
	ChangeSource(t, p.from.Driver)
	write(t, p.to.Driver, c2, "of the target")
	r := receiveStates(t, p, c2, [2]string{"s3", "s2"}, [2]string{"", "s3"})
	ok(t, r.Abort(t.Context()))
	wantFile(t, p.to.Driver, c2, "of the target")
	wantList(t, p.to.Driver, c2, snapOf(c2, "s0"), snapOf(c2, "s1"), snapOf(c2, "s2"))

	receiveStates(t, p, c2, [2]string{"s3", "s2"}, [2]string{"", "s3"}) // And then it crashes.
	p.to.Driver = p.to.Reopen(t)
	sweep(t, p.to.Driver)
	wantFile(t, p.to.Driver, c2, "of the target")
	wantList(t, p.to.Driver, c2, snapOf(c2, "s0"), snapOf(c2, "s1"), snapOf(c2, "s2"))
	wantEqual(t, p, c2, "s0", "s1", "s2")
}

func testSendBack(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	receiveAll(t, p, c1)
	write(t, p.to.Driver, c1, "of the copy")
	ok(t, p.to.Driver.Snapshot(t.Context(), snapOf(c1, "s3")))
	write(t, p.to.Driver, c1, "newer of the copy")
	back := streamPools{p.to, p.from}
	r := receiveStates(t, back, c1, [2]string{"s3", "s2"}, [2]string{"", "s3"})
	ok(t, r.Commit(t.Context()))
	wantEqual(t, back, c1, "s0", "s1", "s2", "s3", "")
}

func testReceiveNoBase(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
	ok(t, err)
	wantKind(t, next(t.Context(), streamer(t, p.from.Driver), r, snapOf(c1, "s1"), "s0"), errs.Unsupported)
	ok(t, r.Abort(t.Context()))
	wantList(t, p.to.Driver)

	ok(t, p.to.Driver.Create(t.Context(), c2)) // With a snapshot of the name, which is another.
	write(t, p.to.Driver, c2, "other")
	ok(t, p.to.Driver.Snapshot(t.Context(), snapOf(c2, "s0")))
	r, err = streamer(t, p.to.Driver).Receive(t.Context(), c2)
	ok(t, err)
	wantKind(t, next(t.Context(), streamer(t, p.from.Driver), r, snapOf(c1, "s1"), "s0"), errs.Unsupported)
	ok(t, r.Abort(t.Context()))
	wantFile(t, p.to.Driver, c2, "other")
	wantList(t, p.to.Driver, c2, snapOf(c2, "s0"))
}

func testReceiveMounted(t *testing.T, p streamPools) {
	d := p.to.Driver
	ok(t, d.Create(t.Context(), c2))
	_, err := d.Mount(t.Context(), c2, nil)
	ok(t, err)
	_, err = streamer(t, d).Receive(t.Context(), c2)
	wantKind(t, err, errs.Conflict)
	ok(t, d.Unmount(t.Context(), c2))
}

func testReceiveCutOff(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	whole := send(t, p.from.Driver, snapOf(c1, "s0"), "")
	for _, size := range []int{0, 1, 20, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
		r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
		ok(t, err)
		if err := r.Next(t.Context(), bytes.NewReader(whole[:size]), "s0", ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("%d of %d bytes: %v", size, len(whole), err)
		}
		ok(t, r.Abort(t.Context()))
	}
	wantList(t, p.to.Driver)
	wantBare(t, p.to)
}

// testReceiveDamaged flips bits. That of the data of a file may not be noticed.
func testReceiveDamaged(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	whole := send(t, p.from.Driver, snapOf(c1, "s0"), "")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's choices.
	for i := range 12 {
		bad := slices.Clone(whole)
		at := rnd.IntN(len(bad))
		if i%2 == 0 {
			at = rnd.IntN(min(len(bad), 512)) // What says what the rest is.
		}
		bad[at] ^= 1 << rnd.IntN(8)
		r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
		ok(t, err)
		err = r.Next(t.Context(), bytes.NewReader(bad), "s0", "")
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) {
			t.Errorf("byte %d of %d: %v", at, len(bad), err)
		}
		ok(t, r.Abort(t.Context()))
	}
	wantList(t, p.to.Driver)
	wantBare(t, p.to)
}

func testReceiveGarbage(t *testing.T, p streamPools) {
	r, err := streamer(t, p.to.Driver).Receive(t.Context(), c2)
	ok(t, err)
	if err := r.Next(t.Context(), strings.NewReader(strings.Repeat("garbage", 10000)), "", ""); !errs.Is(err, errs.Invalid) {
		t.Errorf("garbage: %v", err)
	}
	ok(t, r.Abort(t.Context()))
	wantList(t, p.to.Driver)
}

// A fullWriter takes some bytes and then fails.
type fullWriter int

var errFull = errors.New("no more room")

func (f *fullWriter) Write(p []byte) (int, error) {
	if len(p) > int(*f) {
		return 0, errFull
	}
	*f -= fullWriter(len(p))
	return len(p), nil
}

func testSendEnds(t *testing.T, p streamPools) {
	FillSource(t, p.from)
	d := streamer(t, p.from.Driver)
	for _, room := range []fullWriter{0, 100, 1000} {
		if err := d.Send(t.Context(), &room, c1, ""); !errors.Is(err, errFull) {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Send(ctx, io.Discard, c1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantList(t, p.from.Driver, img, c1, snapOf(c1, "s0"), snapOf(c1, "s1"), snapOf(c1, "s2"))
	for _, path := range walk(t, p.from.Dir) {
		if strings.HasPrefix(path, "staging/") {
			t.Errorf("left behind: %s", path)
		}
	}
}

func testSendMissing(t *testing.T, p streamPools) {
	d := streamer(t, p.from.Driver)
	wantKind(t, d.Send(t.Context(), io.Discard, c1, ""), errs.NotFound)
	ok(t, p.from.Driver.Create(t.Context(), c1))
	wantKind(t, d.Send(t.Context(), io.Discard, snap, ""), errs.NotFound)
	wantKind(t, d.Send(t.Context(), io.Discard, c1, "none"), errs.NotFound)
}
