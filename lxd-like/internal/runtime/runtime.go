package runtime

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/errs"
)

// A Runtime runs containers. Its methods are safe for concurrent use.
type Runtime struct {
	Dir  string // What belongs to running containers: Dir/NAME has their configuration, logs and status.
	Shim string // Path of cuib-shim.
	Log  *slog.Logger

	// LXCFS says what serves guests what they see of their limits; nil for
	// that of the host, if there is one.
	LXCFS func() lxcfs.Served

	// CNI runs the plugins of NICs that have some; nil for none.
	CNI *cni.Plugins

	lowers sync.Mutex // Held while an interface that several NICs can share is made or removed.
	shared sync.Mutex // Held while a file is written that several guests have mounted.

	mu      sync.Mutex            // Guards what follows.
	filters *nft.Ports            // Made when it is asked for.
	running map[string]*container // By name; those that start too.

	host hostFacts
}

// Names of the files in Dir/NAME.
const (
	confFile    = "lxc.conf"
	environFile = "environ"
	stateFile   = "state.json"
	statusFile  = "status"
	endsFile    = "ends-at-reboot" // The shim looks for it.
	consoleFile = "console.log"
	lxcLogFile  = "lxc.log"
	shimLogFile = "shim.log"
	rootDir     = "rootfs"
	mountsDir   = "mounts"
	devicesDir  = "devices"
	appArmorDir = "apparmor" // Of liblxc.

	credentialsDir = "credentials"
)

func (r *Runtime) path(name string, elem ...string) string {
	return filepath.Join(append([]string{r.Dir, name}, elem...)...)
}

// add puts a container into the index, which is how names are reserved.
func (r *Runtime) add(c *container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[c.name] != nil {
		return errs.Conflictf("instance %q is running", c.name)
	}
	if r.running == nil {
		r.running = map[string]*container{}
	}
	r.running[c.name] = c
	return nil
}

func (r *Runtime) remove(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[c.name] == c {
		delete(r.running, c.name)
	}
}

// find returns a container whose start has succeeded.
func (r *Runtime) find(name string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.running[name]
	if c == nil || !c.up {
		return nil, errs.NotFoundf("instance %q is not running", name)
	}
	return c, nil
}

// findInit finds a container and the init that it has now.
func (r *Runtime) findInit(name string) (*container, *guestInit, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, nil, err
	}
	in, err := c.current()
	return c, in, err
}

func (r *Runtime) setUp(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.up = true
}

// Get returns what is known of a running container, or an error of kind
// NotFound.
func (r *Runtime) Get(name string) (Running, error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return Running{}, err
	}
	frozen, err := r.frozen(in)
	if err != nil {
		return Running{}, c.during(in, err)
	}
	return Running{Name: name, PID: in.pid, StartedAt: c.started, Frozen: frozen}, nil
}

// Wait returns when the container has ended and all of it is gone, at once if
// it does not run.
func (r *Runtime) Wait(ctx context.Context, name string) error {
	r.mu.Lock()
	c := r.running[name]
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	select {
	case <-c.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Forget removes what is left of a container that does not run: its logs.
func (r *Runtime) Forget(name string) error {
	r.mu.Lock()
	running := r.running[name] != nil
	r.mu.Unlock()
	if running {
		return errs.Conflictf("instance %q is running", name)
	}
	return os.RemoveAll(r.path(name))
}
