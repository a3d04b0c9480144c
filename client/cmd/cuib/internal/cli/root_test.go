package cli

import (
	"os"
	"slices"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

func rootFor(args ...string) *cobra.Command {
	world := Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: func(string) string { return "" }}
	return newRoot(&env{&kit.Env{World: world, Made: client.New(client.SocketPath(world.Getenv))}}, args)
}

// TestCommandsAlone has each command made alone by each of its names, and all
// for what is none of those.
func TestCommandsAlone(t *testing.T) {
	t.Parallel()
	all := rootFor().Commands()
	if len(all) < 40 || len(rootFor("--debug", "list").Commands()) != len(all) || len(rootFor("__complete", "li").Commands()) != len(all) {
		t.Errorf("%d commands in all", len(all))
	}
	for _, want := range all {
		if slices.Contains([]string{"alias", "completion", "manpage"}, want.Name()) { // They are about all others, or cost nothing.
			continue
		}
		for _, name := range append(want.Aliases, want.Name()) {
			got := rootFor(name, "x").Commands()
			if len(got) != 1 || got[0].Name() != want.Name() || !slices.Equal(got[0].Aliases, want.Aliases) || len(got[0].Commands()) != len(want.Commands()) {
				t.Errorf("%s makes %d commands, the first %q", name, len(got), got[0].Name())
			}
		}
	}
}

func BenchmarkCommands(b *testing.B) {
	for _, args := range [][]string{nil, {"exec"}, {"network"}} {
		b.Run("for "+slices.Concat(args, []string{"all"})[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rootFor(args...)
			}
		})
	}
}
