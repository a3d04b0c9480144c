package nets

import (
	"context"
	"time"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/api"
)

// CountAddresses warns of networks that have no address left.
func CountAddresses(ctx context.Context, s *Service) error { return s.countAddresses(ctx) }

// AddressTime is how long an instance has to get its addresses.
const AddressTime = addressTime

// Arrivals are the instances that are waited for.
type Arrivals struct{ a arrivals }

// NewArrivals returns those that there are after a start of the daemon.
func NewArrivals(ctx context.Context, s *Service, now time.Time) (*Arrivals, error) {
	a := arrivals{s, map[string]*arrival{}}
	return &Arrivals{a}, a.recall(ctx, now)
}

// Heed tells of an event.
func (a *Arrivals) Heed(ctx context.Context, e *api.Event, now time.Time) { a.a.heed(ctx, e, now) }

// Look lets it be now, and returns how many are waited for.
func (a *Arrivals) Look(ctx context.Context, now time.Time) int {
	if next := a.a.next(); !next.IsZero() && !next.After(now) {
		a.a.look(ctx, now)
	}
	return len(a.a.all)
}

// Block has the host's firewall drop the requests of DHCP of a network.
func Block(s *Service, network string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := firewall.Obstacle{Family: "ip", Table: "strict", Chain: "in", Base: "in", Rule: "udp dport 67 drop"}
	o.Packet.What, o.Packet.In, o.Packet.Hook = "DHCP requests of instances (IPv4)", network, firewall.Input
	s.blocked = map[string][]firewall.Obstacle{network: {o}}
}

// LookThrough looks through the host's firewall.
func LookThrough(ctx context.Context, s *Service) error { return s.examine(ctx) }

// PauseAfter is how long a guard waits after a repair.
func PauseAfter(intact, last time.Duration) time.Duration { return pauseAfter(intact, last) }

// FollowNames applies the networks whose names have changed since nothing was
// known of them.
func FollowNames(ctx context.Context, s *Service) { s.follow(ctx, named{}) }
