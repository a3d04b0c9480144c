package integrate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
)

// firewalld has zones, which interfaces are in. A bridge is put into one until
// firewalld ends, and again after it: nothing is written into its
// configuration. The file of a bridge's name in records is the zone that it was
// put into.
type firewalld struct{ records string }

// Zones for bridges: the one that Cuib brings with it, which lets instances have
// from the host what they need and nothing else, and firewalld's own for
// everything.
const (
	zone    = "cuib"
	trusted = "trusted"
)

func (f firewalld) open(ctx context.Context, u *undo.Stack, w want) error {
	if !slices.ContainsFunc(w.lost, func(o firewall.Obstacle) bool { return o.Owner == firewall.Firewalld }) {
		return nil
	}
	if _, err := exec.LookPath("firewall-cmd"); err != nil {
		return nil //nolint:nilerr // the warning says what is to be done
	}
	now, err := zoneOf(ctx, w.bridge)
	if err != nil || now != "" { // Somebody has put it there.
		return err
	}
	to, err := f.choose(ctx, w)
	if err != nil || to == "" {
		return err
	}
	if err := f.record(w.bridge, to); err != nil {
		return err
	}
	u.Push("take the bridge out of its zone", func(ctx context.Context) error { return f.close(ctx, w.bridge) })

	_, err = run.Cmd(ctx, "firewall-cmd", "--zone="+to, "--change-interface="+w.bridge)
	return err
}

// choose returns the zone for a bridge; "" for none.
func (firewalld) choose(ctx context.Context, w want) (string, error) {
	out, err := ask(ctx, "--get-zones")
	switch {
	case err != nil:
		return "", err
	case out == "":
		return "", nil
	case slices.Contains(strings.Fields(out), zone):
		return zone, nil
	case w.mode == networks.IntegrateAlways:
		return trusted, nil
	}
	return "", nil
}

func (f firewalld) record(bridge, to string) error {
	if err := os.MkdirAll(f.records, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.records, bridge), []byte(to), 0o600)
}

func (f firewalld) close(ctx context.Context, bridge string) error {
	path := filepath.Join(f.records, bridge)
	put, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := takeOut(ctx, string(put), bridge); err != nil {
		return err
	}
	return os.Remove(path)
}

// takeOut takes a bridge out of a zone, if it is there only until firewalld
// ends: where it is beyond that somebody else has put it.
func takeOut(ctx context.Context, from, bridge string) error {
	if _, err := exec.LookPath("firewall-cmd"); err != nil {
		return nil //nolint:nilerr // without it there is no firewalld
	}
	now, err := zoneOf(ctx, bridge)
	if err != nil || now != from {
		return err
	}
	if _, err := run.Cmd(ctx, "firewall-cmd", "--permanent", "--zone="+from, "--query-interface="+bridge); err == nil {
		return nil
	}
	_, err = run.Cmd(ctx, "firewall-cmd", "--zone="+from, "--remove-interface="+bridge)
	return err
}

func (f firewalld) bridges(context.Context) ([]string, error) {
	entries, err := os.ReadDir(f.records)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// zoneOf returns the zone that a bridge is in; "" if it is in none, or
// firewalld does not run.
func zoneOf(ctx context.Context, bridge string) (string, error) {
	return ask(ctx, "--get-zone-of-interface="+bridge)
}

// ask asks firewalld; "" is the answer of one that does not run, too.
func ask(ctx context.Context, question string) (string, error) {
	out, err := run.Cmd(ctx, "firewall-cmd", question)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && slices.Contains(noAnswers, exit.ExitCode()) {
		return "", nil
	}
	return strings.TrimSpace(out), err
}

// noAnswers are the exit statuses of firewall-cmd for an interface in no zone, for
// no bus to ask on, and for a firewalld that does not run.
var noAnswers = []int{2, 36, 252}
