package storagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// guest runs a shell script in a directory as root of a user namespace with
// the ids, which is all that a container's root is to the file system.
func guest(t *testing.T, dir, script string) {
	t.Helper()
	at, err := os.Open(dir)
	ok(t, err)
	defer at.Close()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids[0].Host), Size: int(ids[0].Size)}}
	// The path to the directory is not for others: it comes as a descriptor.
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", "cd /proc/self/fd/3/.\n"+script)
	cmd.ExtraFiles = []*os.File{at}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER,
		UidMappings:                maps,
		GidMappings:                maps,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in the guest: %v\n%s", err, out)
	}
}

func testGuest(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		for _, name := range []string{"gone", "moved", "home"} {
			ok(t, os.MkdirAll(filepath.Join(dir, name, "deep"), 0o755))
			ok(t, os.WriteFile(filepath.Join(dir, name, "deep", "f"), []byte("image"), 0o644))
		}
		ok(t, os.Lchown(filepath.Join(dir, "home"), 1000, 1000))
		ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("image"), 0o600))
	})
	ok(t, d.Clone(t.Context(), c1, img))
	for range 2 { // The second time on what the first left.
		guest(t, mount(t, d, c1, ids), `
			echo new >n; chown 5:6 n
			rm -rf gone; mkdir gone
			if [ -d moved ]; then mv moved there; fi
			mv there/deep there/deeper; mv there/deeper there/deep
			chown -R 7:8 there; chmod 4755 there/deep/f
			rm -f hard; ln f hard; echo guest >f
			rm -f pipe; mkfifo pipe; ln -sfn f link
			chown 1001 home; mkdir -p home/a/b; rm -r home/a
			[ "$(stat -c %u:%g n)" = 5:6 ]
			[ "$(cat hard)" = guest ]
		`)
		ok(t, d.Unmount(t.Context(), c1))
	}
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, snap))
	for _, v := range []storage.Volume{c1, snap, c2} {
		in(t, d, v, func(dir string) {
			at := func(name string) string { return filepath.Join(dir, name) }
			wantOwner(t, at("n"), 5, 6)
			wantOwner(t, at("there/deep/f"), 7, 8)
			wantOwner(t, at("home"), 1001, 1000)
			wantOwner(t, at("home/deep/f"), 0, 0)
			wantOwner(t, at("pipe"), 0, 0)
			if got := stat(t, at("there/deep/f")).Mode; got != unix.S_IFREG|0o4755 {
				t.Errorf("the mode is %o", got)
			}
			if got := list(t, dir); !slices.Equal(got, []string{"f", "gone", "hard", "home", "link", "n", "pipe", "there"}) {
				t.Errorf("%s holds %v", v, got)
			}
			if got := list(t, at("gone")); len(got) > 0 {
				t.Errorf("%s: the new directory holds %v", v, got)
			}
		})
	}
	in(t, d, img, func(dir string) {
		if got := list(t, dir); !slices.Equal(got, []string{"f", "gone", "home", "moved"}) {
			t.Errorf("the image now holds %v", got)
		}
	})
}
