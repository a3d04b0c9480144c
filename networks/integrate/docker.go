package integrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
)

// docker is the chain that Docker lets others have rules in, of IPv4 or of IPv6.
// It calls it before its own rules, and never changes it.
type docker struct {
	mark         marker
	ipv6, legacy bool // In the tables of iptables-legacy.
}

// user is the chain's name.
const user = "DOCKER-USER"

func (d docker) open(ctx context.Context, u *undo.Stack, w want) error {
	lost := slices.ContainsFunc(w.lost, func(o firewall.Obstacle) bool {
		return o.Owner == firewall.Docker && o.Packet.Hook == firewall.Forward && o.Packet.IPv6 == d.ipv6 && o.Legacy == d.legacy
	})
	have, err := d.list(ctx)
	if err != nil {
		return err
	}
	ours := d.ours(have, w.bridge)
	if !lost && len(ours) == 0 {
		return nil
	}
	wanted, err := d.rules(w.bridge)
	if err != nil || slices.Equal(ours, wanted) {
		return err
	}
	if err := d.replace(ctx, u, ours, nil); err != nil {
		return err
	}
	return d.replace(ctx, u, nil, wanted)
}

// replace deletes old rules and makes new ones, one after the other.
func (d docker) replace(ctx context.Context, u *undo.Stack, old, made []string) error {
	for _, r := range old {
		if _, err := d.run(ctx, "-D", r); err != nil {
			return err
		}
		u.Push("put a rule back into "+user, func(ctx context.Context) error { return d.insert(ctx, r) })
	}
	for _, r := range made {
		if err := d.insert(ctx, r); err != nil {
			return err
		}
		u.Push("delete a rule of "+user, func(ctx context.Context) error {
			_, err := d.run(ctx, "-D", r)
			return err
		})
	}
	return nil
}

// insert puts a rule behind those that are there: what others refuse stays
// refused. Docker itself once ended the chain with a rule that returns.
func (d docker) insert(ctx context.Context, rule string) error {
	have, err := d.list(ctx)
	if err != nil {
		return err
	}
	if n := len(have); n > 0 && have[n-1] == "-j RETURN" {
		_, err = d.run(ctx, "-I", strconv.Itoa(n), rule)
		return err
	}
	_, err = d.run(ctx, "-A", rule)
	return err
}

// rules are what lets the packets of a bridge pass: what instances send to
// others than Docker's containers, which it keeps apart, and what answers them
// or comes by a published port.
func (d docker) rules(bridge string) ([]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []string
	in := "-i " + bridge
	mark := " -m comment --comment " + d.mark(bridge)
	for _, l := range links {
		if dockers.MatchString(l.Name) {
			out = append(out, in+" -o "+l.Name+mark+" -j RETURN")
		}
	}
	return append(out, in+mark+" -j ACCEPT", "-o "+bridge+" -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"+mark+" -j ACCEPT"), nil
}

// dockers are the names of Docker's bridges.
var dockers = regexp.MustCompile(`^(docker0|br-[0-9a-f]{12})$`)

func (d docker) close(ctx context.Context, bridge string) error {
	have, err := d.list(ctx)
	if err != nil {
		return err
	}
	return d.replace(ctx, new(undo.Stack), d.ours(have, bridge), nil)
}

func (d docker) bridges(ctx context.Context) ([]string, error) {
	have, err := d.list(ctx)
	return d.mark.bridgesOf(have), err
}

// ours returns the rules for a bridge.
func (d docker) ours(rules []string, bridge string) []string {
	return slices.DeleteFunc(slices.Clone(rules), func(r string) bool { return d.mark.bridge(r) != bridge })
}

// list returns the rules of the chain, as the program takes them; none if there
// is no such chain, or no program.
func (d docker) list(ctx context.Context) ([]string, error) {
	there, err := d.exists()
	if err != nil || !there || d.program() == "" {
		return nil, err
	}
	lines, err := run.Lines(ctx, d.program(), "-w", "-S", user)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range lines {
		if r, ok := strings.CutPrefix(line, "-A "+user+" "); ok {
			out = append(out, strings.ReplaceAll(r, `"`, ""))
		}
	}
	return out, nil
}

// exists tells whether the chain is there, without a program that would make
// the tables.
func (d docker) exists() (bool, error) {
	if d.legacy {
		names, err := os.ReadFile(map[bool]string{false: "/proc/thread-self/net/ip_tables_names", true: "/proc/thread-self/net/ip6_tables_names"}[d.ipv6])
		if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(names)), "filter") {
			return false, nil
		}
		return err == nil, err
	}
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	family := map[bool]nftables.TableFamily{false: nftables.TableFamilyIPv4, true: nftables.TableFamilyIPv6}[d.ipv6]
	chains, err := c.ListChainsOfTableFamily(family)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	return slices.ContainsFunc(chains, func(ch *nftables.Chain) bool { return ch.Name == user && ch.Table.Name == "filter" }), nil
}

// program is what reads and writes the tables; "" if it is not installed.
func (d docker) program() string {
	name := map[bool]string{false: "iptables", true: "ip6tables"}[d.ipv6]
	variant := map[bool]string{false: "-nft", true: "-legacy"}[d.legacy]
	for _, p := range []string{name + variant, name} {
		if _, err := exec.LookPath(p); err == nil {
			return p
		}
	}
	return ""
}

// run runs the program on the chain. The words of the rule are the last
// argument.
func (d docker) run(ctx context.Context, command string, args ...string) (string, error) {
	rule := args[len(args)-1]
	all := append([]string{d.program(), "-w", command, user}, args[:len(args)-1]...)
	return run.Cmd(ctx, append(all, strings.Fields(rule)...)...)
}
