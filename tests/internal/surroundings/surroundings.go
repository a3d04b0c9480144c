// Package surroundings makes the namespaces that a daemon under test has for
// itself.
package surroundings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Namespaces are a network namespace, which "ip netns" knows by its name, and
// a mount namespace, whose /sys shows the interfaces of the former.
type Namespaces struct {
	name string
	// A process in both keeps them. The mount namespace is not bound to a
	// file: since Linux 6.18 the kernel refuses that now and then, as it takes
	// the numbers by which it detects loops from each processor's own supply.
	keeper *exec.Cmd
	end    io.Closer // The keeper ends when this is closed, or this process ends.
}

// ready is what the keeper says when all is made. /mnt stands in for a while.
// Of the mounts that there were, those of other tests, but $1, are let go of:
// they need theirs back.
const ready = `awk -v keep="$1/" '{ at = $5 "/" } at ~ "^(/tmp|/var/tmp|/dev/shm)/[^/]+/." && index(keep, at) != 1 { print $5 }' /proc/self/mountinfo |
	tac | while read -r at; do umount -l "$at" 2>/dev/null || :; done
mount --rbind /sys/fs/cgroup /mnt
mount -t sysfs none /sys
mount --rbind /mnt /sys/fs/cgroup
umount -l /mnt
echo ready
exec cat`

// New makes namespaces; both have the name name.
func New(ctx context.Context, name string) (_ *Namespaces, err error) {
	n := &Namespaces{name: name}
	if err := run(ctx, "ip", "netns", "add", name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(ctx))
		}
	}()
	if err := run(ctx, "ip", "-n", name, "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	// It is there until the end, whatever becomes of ctx.
	cmd := exec.CommandContext(context.WithoutCancel(ctx),
		"nsenter", "--net=/run/netns/"+name, "unshare", "--mount", "--propagation", "private", "sh", "-ec", ready, "sh", os.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if n.end, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n.keeper = cmd
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		_ = cmd.Wait() // It said why.
		return nil, fmt.Errorf("make a mount namespace: %w: %s", err, &stderr)
	}
	return n, nil
}

func run(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// Name is the one that "ip netns" knows.
func (n *Namespaces) Name() string { return n.name }

// Inside returns the command that runs args in the namespaces.
func (n *Namespaces) Inside(args ...string) []string {
	mount := fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.keeper.Process.Pid)
	return append([]string{"nsenter", "--net=/run/netns/" + n.name, mount, "--"}, args...)
}

// Kill ends all processes in the network namespace but the one that keeps it,
// and their children, which may be in namespaces of guests.
func (n *Namespaces) Kill(ctx context.Context) error {
	pids, err := exec.CommandContext(ctx, "ip", "netns", "pids", n.name).Output()
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		if pid != strconv.Itoa(n.keeper.Process.Pid) {
			// They may be gone.
			_ = exec.CommandContext(ctx, "pkill", "-9", "-P", pid).Run()
			_ = exec.CommandContext(ctx, "kill", "-9", pid).Run()
		}
	}
	return nil
}

// Close gives the namespaces up; they are there for as long as processes are
// in them.
func (n *Namespaces) Close(ctx context.Context) error {
	if n.keeper != nil {
		_ = n.end.Close()
		_ = n.keeper.Wait() // It has nothing to say.
	}
	return run(ctx, "ip", "netns", "del", n.name)
}
