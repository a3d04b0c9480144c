package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/cuib/cuib/shared/idmap"
)

// guestCredentials is where a guest's systemd looks for its credentials.
const guestCredentials = "/dev/.cuib/credentials"

// writeCredentials writes files that nobody but the guest's root reads. They
// outlive reboots of the guest.
func (r *Runtime) writeCredentials(s Spec) error {
	if len(s.Credentials) == 0 {
		return nil
	}
	uid, err := hostID(s.IDs, idmap.User, 0)
	if err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	dir := r.path(s.Name, credentialsDir)
	if err := os.Mkdir(dir, 0o500); err != nil {
		return err
	}
	for _, name := range sortedKeys(s.Credentials) {
		at := path.Join(dir, name)
		if err := errors.Join(os.WriteFile(at, s.Credentials[name], 0o400), os.Chown(at, uid, -1)); err != nil {
			return err
		}
	}
	return os.Chown(dir, uid, -1)
}

func renderCredentials(c *conf, s Spec, f Files) {
	if len(s.Credentials) == 0 {
		return
	}
	c.add("lxc.mount.entry", escape(path.Join(f.Dir, credentialsDir))+" "+inside(guestCredentials)+" none bind,ro,nosuid,nodev,noexec,create=dir 0 0")
	c.add("lxc.environment", "CREDENTIALS_DIRECTORY="+guestCredentials)
}
