package devices_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
)

// The disks of a directory are found below file systems that have the device's
// number, and those that have one of their own.
func TestBlocks(t *testing.T) {
	testenv.Kernel(t)
	for _, fstype := range []string{"ext4", "btrfs"} {
		dir := testenv.Mounted(t, fstype, "200M")
		m, err := mounts.Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(m.Source, &st); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		below := filepath.Join(dir, "below")
		if err := os.WriteFile(below, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(below, link); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, below, link, m.Source} {
			if got, err := devices.Blocks(path); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%s on %s: %v, %v, want %s", path, fstype, got, err, want)
			}
		}
	}
	_, err := devices.Blocks("/proc")
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "of type proc") {
		t.Errorf("no disk: %v", err)
	}
	if _, err := devices.Blocks("/nothing/there"); !os.IsNotExist(err) {
		t.Errorf("nothing: %v", err)
	}
}
