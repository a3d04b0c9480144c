package nets

import "context"

// CountAddresses warns of networks that have no address left.
func CountAddresses(ctx context.Context, s *Service) error { return s.countAddresses(ctx) }
