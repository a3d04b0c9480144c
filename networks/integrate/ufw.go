package integrate

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
)

// ufw is the list of rules that ufw keeps. A comment marks ours.
type ufw struct{ mark marker }

// userRules is where ufw keeps the rules, with their comments in hexadecimal
// digits.
const userRules = "/etc/ufw/user.rules"

func (f ufw) open(ctx context.Context, u *undo.Stack, w want) error {
	wanted := f.rules(w)
	if len(wanted) == 0 {
		return nil
	}
	have, err := f.list(ctx)
	if err != nil {
		return err
	}
	for _, r := range wanted {
		// One that somebody has made, and that does not help, is not made ours.
		if slices.ContainsFunc(have, func(h string) bool { return h == r || strings.HasPrefix(h, r+" comment ") }) {
			continue
		}
		if err := f.allow(ctx, r, w.bridge); err != nil {
			return err
		}
		u.Push("delete a rule of ufw", func(ctx context.Context) error { return f.delete(ctx, r) })
	}
	return nil
}

// rules are those that let pass what is lost. Answers pass without one.
func (f ufw) rules(w want) []string {
	var out []string
	for _, o := range w.lost {
		p := o.Packet
		rule := ""
		switch {
		case o.Owner != firewall.UFW:
		case p.Hook == firewall.Forward && p.In == w.bridge:
			rule = "route allow in on " + w.bridge
		case p.Hook == firewall.Input && p.Port == domain: // By UDP and by TCP.
			rule = "allow in on " + w.bridge + " to any port " + strconv.Itoa(domain)
		case p.Hook == firewall.Input && p.Proto == unix.IPPROTO_UDP:
			rule = "allow in on " + w.bridge + " to any port " + strconv.Itoa(int(p.Port)) + " proto udp"
		}
		if rule != "" && !slices.Contains(out, rule) {
			out = append(out, rule)
		}
	}
	return out
}

const domain = 53

func (f ufw) allow(ctx context.Context, rule, bridge string) error {
	args := append([]string{"ufw"}, strings.Fields(rule)...)
	_, err := run.Cmd(ctx, append(args, "comment", f.mark(bridge))...)
	return err
}

func (ufw) delete(ctx context.Context, rule string) error {
	args := strings.Fields(rule)
	at := 0
	if args[0] == "route" {
		at = 1
	}
	_, err := run.Cmd(ctx, append([]string{"ufw", "--force"}, slices.Insert(args, at, "delete")...)...)
	return err
}

func (f ufw) close(ctx context.Context, bridge string) error {
	rules, err := f.ours(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range rules {
		if f.mark.bridge(r) == bridge {
			rule, _, _ := strings.Cut(r, " comment ")
			failed = append(failed, f.delete(ctx, rule))
		}
	}
	return errors.Join(failed...)
}

func (f ufw) bridges(ctx context.Context) ([]string, error) {
	rules, err := f.ours(ctx)
	return f.mark.bridgesOf(rules), err
}

// ours returns the rules that are ours. Most hosts have none, and are not asked:
// ufw takes a while.
func (f ufw) ours(ctx context.Context) ([]string, error) {
	data, err := os.ReadFile(userRules)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.Contains(string(data), hex.EncodeToString([]byte(f.mark("")))) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := f.list(ctx)
	return slices.DeleteFunc(all, func(r string) bool { return f.mark.bridge(r) == "" }), err
}

// list returns all rules, as ufw takes them.
func (ufw) list(ctx context.Context) ([]string, error) {
	if _, err := exec.LookPath("ufw"); err != nil {
		return nil, nil //nolint:nilerr // without the program there are none
	}
	lines, err := run.Lines(ctx, "ufw", "show", "added")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range lines {
		if r, ok := strings.CutPrefix(line, "ufw "); ok {
			out = append(out, r)
		}
	}
	return out, nil
}
