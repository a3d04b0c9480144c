package runtime

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
)

// networkSocket is where the daemon hears that a container which starts has its
// network namespace.
const networkSocket = "network.sock"

// pluginNICs are the NICs that plugins make.
func pluginNICs(s Spec) []NIC {
	var all []NIC
	for _, n := range s.NICs {
		if n.Kind == nic.CNI {
			all = append(all, n)
		}
	}
	return all
}

// Attachment is a NIC of an instance as plugins know it.
func Attachment(instance string, n NIC) cni.Attachment {
	a := cni.Attachment{Instance: instance, Network: n.Plugins.Config, Interface: n.Name, MAC: n.MAC}
	for _, p := range slices.Concat(n.IPv4.Addresses, n.IPv6.Addresses) {
		a.Addresses = append(a.Addresses, p.Addr())
	}
	for _, p := range n.Plugins.Ports {
		one := cni.Port{HostPort: p.Host, ContainerPort: p.Port, Protocol: "tcp"}
		if p.UDP {
			one.Protocol = "udp"
		}
		if p.HostIP.IsValid() {
			one.HostIP = p.HostIP.String()
		}
		a.Ports = append(a.Ports, one)
	}
	return a
}

// plug has plugins make a NIC.
func (r *Runtime) plug(ctx context.Context, of string, n NIC, g *nic.Guest) error {
	if r.CNI == nil {
		return errs.Newf(errs.Unsupported, "this server runs no network plugins")
	}
	_, err := r.CNI.Add(ctx, Attachment(of, n), namespacePath(g))
	return err
}

// unplugged has plugins take a NIC away. Without a guest its namespace is gone.
func (r *Runtime) unplugged(ctx context.Context, of string, n NIC, g *nic.Guest) error {
	if r.CNI == nil {
		return nil
	}
	return r.CNI.Del(ctx, Attachment(of, n), namespacePath(g))
}

// namespacePath is where plugins, which are other processes, find a namespace.
func namespacePath(g *nic.Guest) string {
	if g == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), g.File.Fd())
}

// hostName is the host's end of a NIC; empty for none.
func (r *Runtime) hostName(of string, n NIC) string {
	if n.Kind != nic.CNI || r.CNI == nil {
		return n.HostName
	}
	got, err := r.CNI.Result(Attachment(of, n))
	if err != nil {
		return ""
	}
	return got.HostName()
}

// CheckNIC asks the plugins of a NIC of a running container whether all is as
// they have made it.
func (r *Runtime) CheckNIC(ctx context.Context, name string, n NIC) error {
	c, in, err := r.findInit(name)
	if err != nil {
		return err
	}
	if r.CNI == nil {
		return errs.Newf(errs.Unsupported, "this server runs no network plugins")
	}
	ns, err := r.openNetNS(in)
	if err != nil {
		return c.during(in, err)
	}
	defer ns.close()
	return r.CNI.Check(ctx, Attachment(name, n), namespacePath(ns.guest))
}

// settlePlugins takes back what plugins have made for containers that do not
// run any more.
func (r *Runtime) settlePlugins(ctx context.Context) {
	if r.CNI == nil {
		return
	}
	runs := func(name string) bool {
		_, err := r.find(name)
		return err == nil
	}
	if err := r.CNI.Settle(ctx, runs); err != nil {
		r.Log.ErrorContext(ctx, "network plugins do not take back what they have made", "err", err)
	}
}

// A startHook waits for a container that starts to have its network namespace,
// and has plugins make interfaces there before init runs.
type startHook struct {
	at       *os.File // The directory, by which the socket's path is short.
	listener *net.UnixListener
	once     sync.Once
	done     chan struct{}
	err      error // Of the plugins; to be read when done is closed.
}

// awaitHook returns nil if no plugin has to do with the container.
func (r *Runtime) awaitHook(ctx context.Context, c *container) (*startHook, error) {
	if len(pluginNICs(c.specNow())) == 0 {
		return nil, nil //nolint:nilnil // As the comment says.
	}
	at, err := os.OpenFile(r.path(c.name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", at.Fd(), networkSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		at.Close()
		return nil, err
	}
	h := &startHook{at: at, listener: l, done: make(chan struct{})}
	if err := os.Chmod(path, 0o600); err != nil { // The guest's root may look into the directory.
		close(h.done)
		_ = h.close()
		return nil, err
	}
	go func() {
		defer close(h.done)
		h.err = r.serveHook(ctx, c, l)
	}()
	return h, nil
}

// close returns what went wrong with the plugins, as soon as they have ended.
func (h *startHook) close() error {
	if h == nil {
		return nil
	}
	h.once.Do(func() { _ = h.listener.Close() })
	<-h.done
	h.at.Close()
	return h.err
}

// serveHook answers the hook, if it comes.
func (r *Runtime) serveHook(ctx context.Context, c *container, l *net.UnixListener) error {
	conn, err := l.Accept()
	if err != nil {
		return nil // The start has ended before, and says why.
	}
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return nil // As above.
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	if err := r.plugAll(ctx, c, pid); err != nil {
		return err
	}
	_, _ = conn.Write([]byte("G")) // If nobody hears it the start fails, and says why.
	return nil
}

// plugAll makes the NICs of plugins in the namespace of a process, which is kept
// for their end.
func (r *Runtime) plugAll(ctx context.Context, c *container, pid int) error {
	file, err := os.Open(filepath.Join(procDir(pid), "ns/net"))
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.netns = file
	c.mu.Unlock()
	for _, n := range pluginNICs(c.specNow()) {
		if err := r.plug(ctx, c.name, n, &nic.Guest{File: file}); err != nil {
			return errs.Newf(errs.KindOf(err), "network interface %s: %w", n.Name, err)
		}
	}
	return nil
}

// LookForPlugins reports why plugins cannot make a NIC of an instance.
func (r *Runtime) LookForPlugins(ctx context.Context, name string, n NIC) error {
	if r.CNI == nil {
		return errs.Newf(errs.Unsupported, "this server runs no network plugins")
	}
	return r.CNI.Look(ctx, Attachment(name, n))
}

// Plugged returns what plugins have made of a NIC of an instance.
func (r *Runtime) Plugged(name string, n NIC) (*cni.Result, error) {
	if r.CNI == nil {
		return nil, errs.NotFoundf("this server runs no network plugins")
	}
	return r.CNI.Result(Attachment(name, n))
}
