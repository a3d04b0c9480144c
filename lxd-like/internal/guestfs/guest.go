package guestfs

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// asGuest runs fn as the guest's root makes files: with its ids, which the
// mapped mounts demand, and not beyond the size limits of the file system.
// The thread keeps the daemon's other capabilities.
func (f *FS) asGuest(fn func() error) (err error) {
	uid, okUser := f.ids.ToHost(idmap.User, 0)
	gid, okGroup := f.ids.ToHost(idmap.Group, 0)
	if !okUser || !okGroup {
		return errs.Newf(errs.Unsupported, "the instance has no root user")
	}
	runtime.LockOSThread()
	back, err := become(int(uid), int(gid))
	defer func() { // Also when fn panics: its goroutine may go on.
		if berr := back(); berr != nil {
			// The goroutine takes the thread with it when it ends.
			err = errors.Join(err, fmt.Errorf("drop the ids of the guest: %w", berr))
			return
		}
		runtime.UnlockOSThread()
	}()
	if err != nil {
		return err
	}
	return fn()
}

// become gives the thread the ids with which it makes files. It returns what
// takes them back.
func become(uid, gid int) (back func() error, err error) {
	none := func() error { return nil }
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return none, fmt.Errorf("read capabilities: %w", err)
	}
	oldUID, oldGID, err := setIDs(uid, gid)
	back = func() error {
		_, _, err := setIDs(oldUID, oldGID)
		return errors.Join(err, unix.Capset(&header, &caps[0]))
	}
	if err != nil {
		return back, err
	}
	// The kernel took capabilities from a user who is not root any more.
	guest := caps
	guest[unix.CAP_SYS_RESOURCE/32].Effective &^= 1 << (unix.CAP_SYS_RESOURCE % 32)
	if err := unix.Capset(&header, &guest[0]); err != nil {
		return back, fmt.Errorf("keep capabilities: %w", err)
	}
	return back, nil
}

// setIDs sets the ids with which the thread makes files, and returns the ones
// before. The kernel reports no failure of that; asking again shows it.
func setIDs(uid, gid int) (oldUID, oldGID int, err error) {
	oldGID, err = unix.SetfsgidRetGid(gid)
	if err != nil {
		return 0, 0, fmt.Errorf("set the group of new files: %w", err)
	}
	oldUID, err = unix.SetfsuidRetUid(uid)
	if err != nil {
		return 0, 0, fmt.Errorf("set the owner of new files: %w", err)
	}
	nowUID, _ := unix.SetfsuidRetUid(-1)
	nowGID, _ := unix.SetfsgidRetGid(-1)
	if nowUID != uid || nowGID != gid {
		return oldUID, oldGID, fmt.Errorf("new files belong to %d:%d, not to %d:%d", nowUID, nowGID, uid, gid)
	}
	return oldUID, oldGID, nil
}
