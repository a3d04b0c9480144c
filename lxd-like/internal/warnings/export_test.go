package warnings

import (
	"context"

	"github.com/cuib/cuib/shared/api"
)

// Follow forgets warnings about an object that an event says is gone.
func Follow(ctx context.Context, s *Service, e *api.Event) error { return s.follow(ctx, e) }
