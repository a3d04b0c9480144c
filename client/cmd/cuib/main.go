// Command cuib drives a Cuib daemon from the command line.
package main

import (
	"context"
	"os"

	"github.com/cuib/cuib/client/cmd/cuib/internal/cli"
)

func main() {
	env := cli.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
	os.Exit(cli.Main(context.Background(), env, os.Args[1:]))
}
