package zones

import (
	"context"

	"github.com/miekg/dns"
)

// Content returns the records of a zone, its SOA first.
func Content(ctx context.Context, s *Service, zone string) ([]dns.RR, error) {
	return s.current(ctx, zone)
}
