package instances

import (
	"context"

	"github.com/cuib/cuib/profiles"
)

// checkAliases reports who has a name that an instance is to have beside its
// own. in is nil for a new instance.
func (s *Service) checkAliases(ctx context.Context, in, next *instance) error {
	aliases := next.expanded.Options[profiles.KeyAliases]
	if aliases == "" || in != nil && in.expanded.Options[profiles.KeyAliases] == aliases {
		return nil
	}
	return s.Nets.CheckNames(ctx, next.Name, profiles.SplitList(aliases))
}
