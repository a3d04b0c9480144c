// Package integrate lets the packets of bridges through the firewalls of others,
// at the place that each of them has for that: the chain DOCKER-USER, rules of
// ufw, a zone of firewalld. What it puts there is the least that lets pass what
// is lost, has a mark or a record by which it is found again, and is taken out by
// [Host.Close]. Whatever else is there is not changed, and neither are the tables
// of those who have no such place.
package integrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/undo"
)

// A Host is what one daemon has in the firewalls of its host. The caller
// serializes the calls of its methods.
type Host struct {
	id     string // Tells its marks from those of other daemons.
	places []place
}

// New returns what the daemon with a state directory has.
func New(dir string) *Host {
	sum := sha256.Sum256([]byte(dir))
	h := &Host{id: hex.EncodeToString(sum[:4])}
	for _, ipv6 := range []bool{false, true} {
		for _, legacy := range []bool{false, true} {
			h.places = append(h.places, docker{h.mark, ipv6, legacy})
		}
	}
	h.places = append(h.places, ufw{h.mark}, firewalld{filepath.Join(dir, "firewalld")})
	return h
}

// A place is where the owner of a firewall lets others have rules.
type place interface {
	// open makes what is ours of a bridge be what lets pass what is lost,
	// beside what is there. It pushes what takes that back.
	open(ctx context.Context, u *undo.Stack, w want) error

	// close takes out what is ours of a bridge.
	close(ctx context.Context, bridge string) error

	// bridges returns those that something of ours is there for.
	bridges(ctx context.Context) ([]string, error)
}

// A want is what is to be let pass.
type want struct {
	bridge string
	mode   networks.Integration
	lost   []firewall.Obstacle
}

// Open lets pass what the host's firewall drops of what a bridge needs, as far
// as its owners have a place for that and mode allows it. If it fails, it has
// changed nothing.
func (h *Host) Open(ctx context.Context, bridge string, mode networks.Integration, lost []firewall.Obstacle) (err error) {
	if mode == networks.IntegrateNever {
		return nil
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	for _, p := range h.places {
		if err := p.open(ctx, &u, want{bridge, mode, lost}); err != nil {
			return fmt.Errorf("let the packets of %s through the host's firewall: %w", bridge, err)
		}
	}
	return nil
}

// Close takes out what is there for a bridge. It succeeds if nothing is.
func (h *Host) Close(ctx context.Context, bridge string) error {
	var failed []error
	for _, p := range h.places {
		if err := p.close(ctx, bridge); err != nil {
			failed = append(failed, fmt.Errorf("take what is for %s out of the host's firewall: %w", bridge, err))
		}
	}
	return errors.Join(failed...)
}

// Bridges returns those that something is there for.
func (h *Host) Bridges(ctx context.Context) ([]string, error) {
	all := map[string]bool{}
	var failed []error
	for _, p := range h.places {
		some, err := p.bridges(ctx)
		failed = append(failed, err)
		for _, b := range some {
			all[b] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), errors.Join(failed...)
}

// mark is what tells the rules for a bridge from those of others; that of no
// bridge is what all marks begin with.
func (h *Host) mark(bridge string) string { return "cuib:" + h.id + ":" + bridge }

// A marker makes marks.
type marker func(bridge string) string

// bridge returns which one a mark is for; "" for one that is not ours. Names of
// interfaces have neither spaces nor quotes.
func (m marker) bridge(line string) string {
	_, rest, ours := strings.Cut(line, m(""))
	name, _, _ := strings.Cut(rest, " ")
	if !ours {
		return ""
	}
	return strings.TrimRight(name, `"'`)
}

// bridgesOf returns which bridges lines have marks of.
func (m marker) bridgesOf(lines []string) []string {
	var all []string
	for _, line := range lines {
		if b := m.bridge(line); b != "" && !slices.Contains(all, b) {
			all = append(all, b)
		}
	}
	return all
}
