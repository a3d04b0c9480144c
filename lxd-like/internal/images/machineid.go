package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/inroot"
)

// machineIDFiles are where systemd and D-Bus keep a machine's id, see
// machine-id(5).
var machineIDFiles = []string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

var machineID = regexp.MustCompile(`^[0-9a-f]{32}\n$`)

// SetMachineID gives a guest another machine id, of 32 hexadecimal digits, if
// it has one: it was copied from one that had booted, and two machines with one
// id take each other's addresses. One that has none yet makes it itself. The
// directory dir is as that of [RenderTemplates].
func SetMachineID(dir, id string) error {
	rootfs, err := os.OpenFile(filepath.Join(dir, rootfsDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // An instance without anything in it.
	}
	if err != nil {
		return err
	}
	defer rootfs.Close()

	for _, name := range machineIDFiles {
		if err := setMachineID(rootfs, name, id+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func setMachineID(rootfs *os.File, name, text string) error {
	// One of the two can be a link to the other.
	f, err := inroot.Open(rootfs, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil // It has none, or whatever is there is no id.
	}
	defer f.Close()

	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(text)) {
		return err
	}
	old := make([]byte, len(text))
	if _, err := f.ReadAt(old, 0); err != nil || !machineID.Match(old) || !machineID.MatchString(text) {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return err
}
