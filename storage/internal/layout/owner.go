package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// owner is the file in a pool's directory that says which daemon has it. It is
// no lock: a file of the pool that is open would keep its disk from being
// unmounted.
const owner = "owner"

// A holder is the daemon that has a pool.
type holder struct {
	id   string
	lock string // See [storage.Owner].
	host string
}

func (h holder) String() string {
	return fmt.Sprintf("the daemon with the state directory %s on host %q", filepath.Dir(h.lock), h.host)
}

// lives reports whether the daemon is known to run. One on another host, or
// whose files are not seen here, may.
func (h holder) lives() bool {
	f, err := os.Open(h.lock)
	if err != nil {
		return false
	}
	defer f.Close()
	id, err := os.ReadFile(h.lock)
	return err == nil && strings.TrimSpace(string(id)) == h.id && errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// holderOf returns who has the pool in the directory root; nobody if it is the
// one that asks, or not on record.
func holderOf(cfg storage.Config, root string) (holder, error) {
	if cfg.Owner.ID == "" || cfg.Source == "" { // What is in the state directory has the same lock as that.
		return holder{}, nil
	}
	text, err := os.ReadFile(filepath.Join(root, owner))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return holder{}, nil
	}
	if err != nil {
		return holder{}, err
	}
	lines := append(strings.Split(string(text), "\n"), "", "", "")
	h := holder{id: lines[0], lock: lines[1], host: lines[2]}
	if h.id == cfg.Owner.ID || h.id == "" {
		h = holder{}
	}
	return h, nil
}

// Owned returns an error of kind Unavailable that names the daemon which has
// the pool in the directory root, if that is another than the one that asks.
func (f Form) Owned(cfg storage.Config, root string) error {
	h, err := holderOf(cfg, root)
	if err != nil || h == (holder{}) {
		return err
	}
	if h.lives() {
		return errs.Newf(errs.Unavailable, "%s is in use by %s, which is running", root, h)
	}
	return errs.Newf(errs.Unavailable, "%s belongs to %s: if that does not use it any more, take it over (cuib admin recover %s=%s:%s)",
		root, h, cfg.Name, f.Driver, cfg.Source)
}

// claim has the daemon have the pool, as far as cfg says, or returns the error
// of [Form.Owned].
func (f Form) claim(cfg storage.Config, root string) error {
	h, err := holderOf(cfg, root)
	if err != nil {
		return err
	}
	if h != (holder{}) && (cfg.Owner.Claim == storage.Mine || h.lives()) {
		return f.Owned(cfg, root)
	}
	if cfg.Owner.ID == "" || cfg.Source == "" || cfg.Owner.Claim == storage.Glance {
		return nil
	}
	err = own(cfg.Owner, root)
	if h == (holder{}) && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS)) {
		return nil // It is to be opened all the same.
	}
	return err
}

// own writes down who has the pool.
func own(o storage.Owner, root string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	text := o.ID + "\n" + o.Lock + "\n" + host + "\n"
	path := filepath.Join(root, owner)
	if have, err := os.ReadFile(path); err == nil && string(have) == text {
		return nil
	}
	staged := filepath.Join(root, staging, NewID())
	err = writeFile(staged, []byte(text))
	if err == nil {
		err = os.Rename(staged, path)
	}
	if err != nil {
		_ = os.Remove(staged) // The next start does, if this fails too.
		return fmt.Errorf("write down who has the pool: %w", err)
	}
	return nil
}
