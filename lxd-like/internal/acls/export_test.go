package acls

import (
	"context"

	"github.com/cuib/cuib/shared/api"
)

// Write writes a line into the log of an ACL.
func Write(ctx context.Context, s *Service, name string, e api.NetworkACLLogEntry) error {
	return s.write(ctx, name, e)
}
