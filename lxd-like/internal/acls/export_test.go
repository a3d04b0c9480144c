package acls

import (
	"context"

	"github.com/cuib/cuib/shared/api"
)

// Write takes what the kernel has logged for an ACL.
func Write(ctx context.Context, s *Service, name string, e api.NetworkACLLogEntry) error {
	return s.logged(ctx, name, e)
}
