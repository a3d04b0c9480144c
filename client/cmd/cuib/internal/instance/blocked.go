package instance

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// blocked is the type of the warnings about what the host's firewall drops.
const blocked = "Network traffic dropped by the host's firewall"

// tellBlocked tells of what the host's firewall drops of the networks that
// instances are on, which have started. Where nothing is dropped that is one
// question; and where it cannot be asked the instances run all the same. Who wants
// to hear nothing is asked for nothing.
func (e *env) tellBlocked(ctx context.Context, names ...string) {
	if e.Quiet {
		return
	}
	all, err := e.Client().Warnings(ctx)
	if err != nil {
		return
	}
	texts := map[string]string{} // By network.
	for _, w := range all {
		if w.Type == blocked && w.Status != api.WarningResolved {
			texts[path.Base(w.EntityURL)] = w.LastMessage
		}
	}
	if len(texts) == 0 {
		return
	}
	for _, network := range e.networksOf(ctx, names) {
		if text, ok := texts[network]; ok {
			e.Warn("Warning: network %s: %s", network, text)
		}
	}
}

// networksOf returns the managed networks that instances are on.
func (e *env) networksOf(ctx context.Context, names []string) []string {
	all := map[string]bool{}
	for _, name := range names {
		in, _, err := e.Client().Instance(ctx, name)
		if err != nil {
			continue
		}
		for _, d := range in.ExpandedDevices {
			if d["type"] == "nic" && d["network"] != "" {
				all[d["network"]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// tellWhy tries out the networks of an instance that has got no address in
// time, and tells what of them does not work, unless nobody wants to hear it.
func (e *env) tellWhy(ctx context.Context, name string) {
	if e.Quiet {
		return
	}
	for _, network := range e.networksOf(ctx, []string{name}) {
		checks, err := e.Client().ExamineNetwork(ctx, network)
		if err != nil { // It is of a type that cannot be tried out.
			continue
		}
		for _, c := range checks {
			if c.Status != "failed" {
				continue
			}
			e.Warn("Network %s: %s failed: %s", network, c.Name, c.Detail)
			if c.Cause != "" {
				e.Warn("  Cause: %s", c.Cause)
			}
			if c.Remedy != "" {
				e.Warn("  Remedy: %s", strings.ReplaceAll(c.Remedy, "\n", " "))
			}
		}
	}
}
