package runtime

import (
	"os"
	"path"

	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/shared/errs"
)

// Given returns what a running container was given: what it was started with,
// and what has changed since.
func (r *Runtime) Given(name string) (Spec, error) {
	c, err := r.find(name)
	if err != nil {
		return Spec{}, err
	}
	return c.specNow(), nil
}

// shares reports whether another device has the same node, which is there once.
func (n Node) shares(o Node) bool {
	return n.Device != o.Device && n.rule() == o.rule() && path.Clean(n.Path) == path.Clean(o.Path)
}

// Tell tells programs in a running container, such as udev, of an event of a
// device, as the kernel tells those of the host.
func (r *Runtime) Tell(name string, e uevents.Event) error {
	c, in, err := r.findInit(name)
	if err != nil {
		return err
	}
	if sharesHost(c.specNow()) {
		return nil // Those of the host would hear it, too.
	}
	ns, err := in.open("ns/net", os.O_RDONLY)
	if errs.Is(err, errs.Unavailable) {
		return nil // The next one sees what there is.
	}
	if err != nil {
		return c.during(in, err)
	}
	defer ns.Close()
	return uevents.Send(ns, e)
}
