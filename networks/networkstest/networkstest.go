// Package networkstest tests that a driver keeps the contract of
// [networks.Driver], and has what tests of real traffic need: guests, a world
// beyond the host, and clients for DHCP and DNS.
//
// Every test has a network namespace of its own for its host.
package networkstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/testenv"
)

// A Suite is a driver and what it is tested with.
type Suite struct {
	Driver networks.Driver

	// Setup prepares the host; it may be nil.
	Setup func(t *testing.T)

	// Configs are configurations of one network, at least two, that can
	// follow each other. Names and directories are filled in.
	Configs []networks.Config

	// Damages are what can happen to an applied network from outside.
	Damages map[string]func(t *testing.T, cfg networks.Config)
}

// Name is the name of the network that the suite makes.
const Name = "cuibtest0"

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("applied twice", s.twice)
	t.Run("changed and back", s.changed)
	t.Run("removed", s.removed)
	t.Run("hosts", s.hosts)
	for name, damage := range s.Damages {
		t.Run("after "+name, func(t *testing.T) { s.repaired(t, damage) })
		if w, ok := s.Driver.(networks.Watcher); ok {
			t.Run("watched for "+name, func(t *testing.T) { s.watched(t, w, damage) })
		}
	}
}

// begin gives the test its host, and returns the configurations.
func (s Suite) begin(t *testing.T) []networks.Config {
	t.Helper()
	Host(t)
	if s.Setup != nil {
		s.Setup(t)
	}
	dir := Dir(t)
	all := slices.Clone(s.Configs)
	for i := range all {
		all[i].Name, all[i].Dir = Name, filepath.Join(dir, Name)
	}
	t.Cleanup(func() {
		if err := s.Driver.Remove(context.WithoutCancel(t.Context()), all[0]); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return all
}

func (s Suite) apply(t *testing.T, cfg networks.Config) string {
	t.Helper()
	must(t, s.Driver.Apply(t.Context(), cfg))
	return Dump(t, cfg)
}

func (s Suite) twice(t *testing.T) {
	for _, cfg := range s.begin(t) {
		once := s.apply(t, cfg)
		same(t, s.apply(t, cfg), once)
	}
}

func (s Suite) changed(t *testing.T) {
	all := s.begin(t)
	var dumps []string
	for _, cfg := range all {
		dumps = append(dumps, s.apply(t, cfg))
	}
	for i, cfg := range slices.Backward(all) {
		same(t, s.apply(t, cfg), dumps[i])
	}
	for i := range dumps[1:] {
		if dumps[i] == dumps[i+1] && len(s.Damages) > 0 {
			t.Errorf("configurations %d and %d look the same:\n%s", i, i+1, dumps[i])
		}
	}
}

func (s Suite) removed(t *testing.T) {
	cfg := s.begin(t)[0]
	before := Dump(t, cfg)
	must(t, s.Driver.Remove(t.Context(), cfg))
	s.apply(t, cfg)
	for range 2 {
		must(t, s.Driver.Remove(t.Context(), cfg))
		same(t, Dump(t, cfg), before)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func (s Suite) hosts(t *testing.T) {
	cfg := s.begin(t)[0]
	h := networks.Host{Name: "web", MAC: "10:66:6a:01:02:03"}
	want := s.apply(t, cfg)
	must(t, s.Driver.UnsetHost(t.Context(), cfg, h)) // Of which it never heard.
	for range 2 {
		must(t, s.Driver.SetHost(t.Context(), cfg, h))
	}
	h.Name = "www"
	must(t, s.Driver.SetHost(t.Context(), cfg, h))
	for range 2 {
		must(t, s.Driver.UnsetHost(t.Context(), cfg, h))
	}
	same(t, Dump(t, cfg), want)

	cfg.Hosts = []networks.Host{h}
	s.apply(t, cfg)
	cfg.Hosts = nil
	same(t, s.apply(t, cfg), want)
}

func (s Suite) repaired(t *testing.T, damage func(*testing.T, networks.Config)) {
	cfg := s.begin(t)[0]
	want := s.apply(t, cfg)
	damage(t, cfg)
	if Dump(t, cfg) == want {
		t.Error("the damage did none")
	}
	same(t, s.apply(t, cfg), want)
}

func (s Suite) watched(t *testing.T, w networks.Watcher, damage func(*testing.T, networks.Config)) {
	cfg := s.begin(t)[0]
	s.apply(t, cfg)

	// A look at what is whole ends with the context only.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if missing, err := w.Watch(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("whole: got %q, %v", missing, err)
	}
	in := Here(t)
	type result struct {
		missing string
		err     error
	}
	got := make(chan result, 1)
	go func() {
		var r result
		err := in.Do(func() error {
			r.missing, r.err = w.Watch(t.Context(), cfg)
			return nil
		})
		r.err = errors.Join(r.err, err)
		got <- r
	}()
	damage(t, cfg)
	if r := <-got; r.err != nil || r.missing == "" {
		t.Errorf("got %q, %v", r.missing, r.err)
	}
}

// Host puts the test into a network namespace of its own, with a loopback.
func Host(tb testing.TB) {
	tb.Helper()
	testenv.NetNS(tb)
	testenv.Kernel(tb, "nft", "dnsmasq")
	testenv.Run(tb, "ip", "link", "set", "lo", "up")
}

// Dir returns a directory that everybody can search, as those of networks
// have to be.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	must(tb, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}

var index = regexp.MustCompile(`for interface \d+`)

// Dump returns all that drivers make on the host, as text: interfaces,
// addresses, rules, files of the network, and what runs for it.
func Dump(tb testing.TB, cfg networks.Config) string {
	tb.Helper()
	var b strings.Builder
	links, err := host.Kernel{}.Links()
	must(tb, err)
	slices.SortFunc(links, func(a, b host.Link) int { return strings.Compare(a.Name, b.Name) })
	for _, l := range links {
		// Link-local addresses come when the kernel finds the time.
		addrs := slices.DeleteFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
		fmt.Fprintf(&b, "%s %s %s mtu %d up %v %v\n", l.Name, l.Kind, l.MAC, l.MTU, l.Up, addrs)
	}
	b.WriteString(testenv.Run(tb, "nft", "list", "ruleset") + "\n")
	for _, path := range files(tb, cfg.Dir) {
		data, err := os.ReadFile(path)
		must(tb, err)
		text := index.ReplaceAllString(string(data), "for interface N")
		if strings.HasSuffix(path, ".pid") || strings.HasSuffix(path, ".leases") {
			text = ""
		}
		fmt.Fprintf(&b, "%s:\n%s", strings.TrimPrefix(path, cfg.Dir), text)
	}
	fmt.Fprintf(&b, "%d processes\n", len(Processes(tb, cfg.Dir)))
	return b.String()
}

func files(tb testing.TB, dir string) (paths []string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	must(tb, err)
	return paths
}

// Processes returns the ids of the processes that have dir in their command
// line.
func Processes(tb testing.TB, dir string) (pids []string) {
	tb.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(tb, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func same(tb testing.TB, got, want string) {
	tb.Helper()
	if got != want {
		tb.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
