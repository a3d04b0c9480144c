package instances_test

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/scope"
)

// views are those of the default project, and of p, which has all of its own.
type views struct{}

func (views) View(_ context.Context, name string) (scope.View, error) {
	if name != "default" && name != "p" {
		return scope.View{}, db.NoProject(name)
	}
	return scope.Whole(name), nil
}
