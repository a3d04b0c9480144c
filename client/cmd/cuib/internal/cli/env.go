package cli

import "github.com/cuib/cuib/client/cmd/cuib/internal/kit"

// env is what a command has of the world.
type env struct {
	*kit.Env
}
