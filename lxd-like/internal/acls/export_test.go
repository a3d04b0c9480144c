package acls

import (
	"context"

	"github.com/cuib/cuib/shared/api"
)

// Write takes what the kernel has logged for an ACL.
func Write(ctx context.Context, s *Service, name string, e api.NetworkACLLogEntry) error {
	return s.logged(ctx, name, e)
}

// Readdress has the kernel follow the addresses that subjects have now, as is done
// after each event.
func Readdress(ctx context.Context, s *Service) error {
	s.change.Lock()
	defer s.change.Unlock()
	return s.readdress(ctx)
}
