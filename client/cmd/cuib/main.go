// Command cuib drives a Cuib daemon from the command line.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/cuib/cuib/client/cmd/cuib/internal/cli"
)

// version says which source the program was built from. The linker sets it.
var version = "unknown"

func main() {
	debug.SetGCPercent(400) // The program ends before garbage matters.
	env := cli.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Build: version}
	os.Exit(cli.Main(context.Background(), env, os.Args[1:]))
}
