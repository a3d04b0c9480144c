package runtime

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/shared/mounts"
)

// served returns what lxcfs serves now.
func (r *Runtime) served() lxcfs.Served {
	if r.LXCFS != nil {
		return r.LXCFS()
	}
	return lxcfs.Look(lxcfs.HostDir)
}

// showPatience bounds what a guest can do to who mounts in it.
const showPatience = 10 * time.Second

// ShowLXCFS gives all running containers the files of the lxcfs that serves now,
// in place of those of one that has ended.
func (r *Runtime) ShowLXCFS(ctx context.Context) {
	r.mu.Lock()
	var all []*container
	for _, c := range r.running {
		if c.up {
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	for _, c := range all {
		r.showIn(ctx, c)
	}
}

// showIn is ShowLXCFS for one container. That it does not go well is no harm but
// to what the guest sees.
func (r *Runtime) showIn(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeout(ctx, showPatience)
	defer cancel()
	if err := r.tryShow(ctx, c); err != nil && c.orGone(err) == err { //nolint:errorlint // Whether it has ended.
		r.Log.WarnContext(ctx, "an instance sees the host's memory and processors", "instance", c.name, "err", err)
	}
}

func (r *Runtime) tryShow(ctx context.Context, c *container) error {
	c.change.Lock()
	defer c.change.Unlock()
	served := r.served()
	if served.Dir == "" {
		return nil
	}
	in, err := c.current()
	if err != nil {
		return err
	}
	args, err := missing(in.pid, served)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		if err := r.shimRun(ctx, in, append([]string{"show", served.Dir}, args...)...); err != nil {
			return err
		}
	}
	return r.respec(c, func(*Spec) {}) // For when the guest boots again.
}

// missing returns what the shim is to do: files that the guest does not have
// from the lxcfs that serves, each with how many of another one are in its
// place. What is mounted is only read about: a file system of the guest's own
// could keep us.
func missing(pid int, served lxcfs.Served) ([]string, error) {
	type place struct {
		device string
		others int
	}
	at := map[string]place{}
	all, err := mounts.ListOf(pid, func(i mounts.Info) bool { return slices.Contains(served.Files, strings.TrimPrefix(i.Point, "/")) })
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		p := at[i.Point]
		p.device = i.Device
		if i.Type == "fuse.lxcfs" {
			p.others++
		}
		at[i.Point] = p
	}
	var args []string
	for _, name := range served.Files {
		if p := at["/"+name]; p.device != served.Device {
			args = append(args, strconv.Itoa(p.others), name)
		}
	}
	return args, nil
}
