package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// says checks what lines of shell say in a container.
func says(t *testing.T, r *runtime.Runtime, name string, lines map[string]string) {
	t.Helper()
	for line, want := range lines {
		if got := sh(t, r, name, line); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// eachWay calls fn with a container that was started with mounts, over a
// reboot, and with one that was given them later.
func eachWay(t *testing.T, mounts []runtime.Mount, fn func(t *testing.T, r *runtime.Runtime, name string)) {
	t.Helper()
	t.Run("at start", func(t *testing.T) {
		r, s := newRuntime(t), newSpec(t)
		s.Mounts = mounts
		start(t, r, s)
		fn(t, r, s.Name)
		reboot(t, r, s.Name)
		fn(t, r, s.Name)
	})
	t.Run("live", func(t *testing.T) {
		r, s := newRuntime(t), newSpec(t)
		start(t, r, s)
		for _, m := range mounts {
			if err := r.AddMount(t.Context(), s.Name, m); err != nil {
				t.Fatal(err)
			}
		}
		fn(t, r, s.Name)
		reboot(t, r, s.Name)
		fn(t, r, s.Name)
		for _, m := range mounts {
			if err := r.RemoveMount(t.Context(), s.Name, m.Target); err != nil {
				t.Fatal(err)
			}
			says(t, r, s.Name, map[string]string{"grep -c ' " + m.Target + " ' /proc/mounts || true": "0"})
		}
	})
}

func TestMemory(t *testing.T) {
	eachWay(t, []runtime.Mount{
		{Kind: runtime.Memory, Target: "/mem", Size: 1 << 20, UID: 5, GID: 6, Mode: "1770", Options: "noexec"},
		{Kind: runtime.Memory, Target: "/ro", ReadOnly: true},
		{Kind: runtime.MemoryOverlay, Target: "/etc", Size: 2 << 20},
		{Kind: runtime.MemoryOverlay, Target: "/usr", UID: 5, GID: 6, Mode: "0700"},
	}, func(t *testing.T, r *runtime.Runtime, name string) {
		t.Helper()
		says(t, r, name, map[string]string{
			"stat -c '%u %g %a' /mem": "5 6 1770",
			"dd if=/dev/zero of=/mem/f bs=64k count=100 2>/dev/null || echo full; stat -c %s /mem/f; rm /mem/f":                         "full\n1048576",
			"mount -o remount,size=10m /mem 2>/dev/null || echo locked":                                                                 "locked",
			"cp /bin/busybox /usr/x 2>/dev/null || cp /bin/sh /usr/x; rm /usr/x; echo ok > /etc/new; cat /etc/new; stat -c %u /etc/new": "ok\n0",
			"touch /ro/x 2>/dev/null || echo refused":                                                                                   "refused",
			"stat -c '%u %g %a' /usr":                     "5 6 700",
			"grep -c '^tmpfs /mem .*noexec' /proc/mounts": "1",
		})
	})
}

func TestMemoryOverlayIsAbove(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	sh(t, r, s.Name, "mkdir -p /data/sub; echo below > /data/f; chown 7:8 /data; chmod 751 /data; ln -s / /data/up")
	m := runtime.Mount{Kind: runtime.MemoryOverlay, Target: "/data"}
	if err := r.AddMount(t.Context(), s.Name, m); err != nil {
		t.Fatal(err)
	}
	says(t, r, s.Name, map[string]string{
		"cat /data/f; stat -c '%u %g %a' /data; echo above > /data/f; rmdir /data/sub; cat /data/f": "below\n7 8 751\nabove",
	})
	if err := r.RemoveMount(t.Context(), s.Name, m.Target); err != nil {
		t.Fatal(err)
	}
	says(t, r, s.Name, map[string]string{"cat /data/f; ls /data": "below\nf\nsub\nup"})
	for _, target := range []string{"/nonesuch", "/data/f"} {
		err := r.AddMount(t.Context(), s.Name, runtime.Mount{Kind: runtime.MemoryOverlay, Target: target})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", target, err)
		}
	}
	// No link of the guest's leads out of its root.
	out := runtime.Mount{Kind: runtime.MemoryOverlay, Target: "/data/up/etc"}
	if err := r.AddMount(t.Context(), s.Name, out); err != nil {
		t.Fatal(err)
	}
	host, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, r, s.Name, "cat /data/up/etc/passwd 2>/dev/null || true"); got == strings.TrimSpace(string(host)) {
		t.Errorf("the guest has the host's /etc")
	}
}

func TestMountOptions(t *testing.T) {
	dir := share(t)
	eachWay(t, []runtime.Mount{
		{Source: dir, Target: "/opts", Options: "noexec,nosuid,nodev,noatime,ro", Mapped: true},
	}, func(t *testing.T, r *runtime.Runtime, name string) {
		t.Helper()
		got := sh(t, r, name, "grep ' /opts ' /proc/self/mountinfo")
		for _, word := range []string{"ro,", "nosuid", "nodev", "noexec", "noatime"} {
			if !strings.Contains(got, word) {
				t.Errorf("no %s: %s", word, got)
			}
		}
		says(t, r, name, map[string]string{"mount -o remount,bind,exec,rw /opts 2>/dev/null || echo locked": "locked"})
	})
}

// shared returns a directory of the host that is a mount which others follow.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mountFS(t, "tmpfs", "tmpfs", dir, "")
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mountFS(t *testing.T, fstype, source, dir, data string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // For guests.
		t.Fatal(err)
	}
	if err := unix.Mount(source, dir, fstype, 0, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestPropagation(t *testing.T) {
	testenv.Kernel(t)
	dir := shared(t)
	var all []runtime.Mount
	for _, how := range []string{"", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"} {
		all = append(all, runtime.Mount{Source: dir, Target: "/p/" + filepath.Join("x", how), Propagation: how})
	}
	all[0].Target = "/p/private"
	host, round := t, 0 // What is mounted stays until the containers are gone.
	eachWay(t, all, func(t *testing.T, r *runtime.Runtime, name string) {
		t.Helper()
		round++
		sub := filepath.Join(dir, "sub"+string(rune('a'+round)))
		mountFS(host, "tmpfs", "tmpfs", sub, "mode=755")
		if err := os.WriteFile(sub+"/f", []byte("seen"), 0o644); err != nil { //nolint:gosec // For guests.
			t.Fatal(err)
		}
		for how, want := range map[string]string{
			"private": "no", "x/slave": "seen", "x/rslave": "seen", "x/shared": "seen", "x/rshared": "seen", "x/unbindable": "no", "x/runbindable": "no",
		} {
			line := "cat /p/" + how + "/" + filepath.Base(sub) + "/f 2>/dev/null || echo no"
			if got := sh(t, r, name, line); got != want {
				t.Errorf("%s: %s", how, got)
			}
		}
		says(t, r, name, map[string]string{
			"grep -c ' /p/x/r*shared .* shared:' /proc/self/mountinfo": "2",
			// A mount that the guest makes is the guest's alone.
			"mkdir -p /p/x/shared/mine 2>/dev/null; mount -t tmpfs none /p/x/shared/" + filepath.Base(sub) + " && echo mounted": "mounted",
		})
		if data, err := os.ReadFile(sub + "/f"); err != nil || string(data) != "seen" {
			t.Errorf("the guest's mount is on the host: %q, %v", data, err)
		}
	})
	// What went with the containers has unmounted nothing of the host.
	if _, err := os.Stat(filepath.Join(dir, "subb/f")); err != nil {
		t.Error(err)
	}
}

func TestBlock(t *testing.T) {
	testenv.Kernel(t, "mkfs.ext4", "losetup")
	file := filepath.Join(t.TempDir(), "img")
	testenv.Run(t, "truncate", "-s", "16M", file)
	testenv.Run(t, "mkfs.ext4", "-q", "-E", "root_owner=0:0", file)
	dev := testenv.Run(t, "losetup", "--show", "-f", file)
	t.Cleanup(func() { testenv.Run(t, "losetup", "-d", dev) })
	eachWay(t, []runtime.Mount{
		{Kind: runtime.Block, Type: "ext4", Source: dev, Target: "/blk", Mapped: true, Options: "noexec,commit=7"},
	}, func(t *testing.T, r *runtime.Runtime, name string) {
		t.Helper()
		says(t, r, name, map[string]string{
			"stat -c %u /blk; echo x >> /blk/f; stat -c %u /blk/f": "0\n0",
			"grep -c ' /blk ext4 .*noexec.*commit=7' /proc/mounts": "1",
		})
	})
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	err := r.AddMount(t.Context(), s.Name, runtime.Mount{Kind: runtime.Block, Type: "ext4", Source: dev, Target: "/blk", Options: "no_such_option"})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("a bad option: %v", err)
	}
	err = r.AddMount(t.Context(), s.Name, runtime.Mount{Kind: runtime.Block, Type: "xfs", Source: dev, Target: "/blk"})
	if err == nil {
		t.Errorf("another file system: %v", err)
	}
}
