// Command hostile does in an instance what its root may not do. It is what the
// tests of escapes and of hostile guests run there:
//
//	hostile try NAME [ARG...]   ends with 0 if what is tried is possible, and else with 1
//	hostile swap DIR TARGET     exchanges DIR/a, a directory, and DIR/b, a link to TARGET, again and again
//	hostile watch SECONDS       looks for the helpers of the host, and ends with 0 if it could use one
//	hostile tree DIR            makes a tree of strange names there
//	hostile deep DIR            makes directories in one another there
//	hostile fork                makes processes, and those others
//	hostile hog                 takes memory
package main

import (
	"fmt"
	"os"
	"slices"
)

// Ends of the program. A shell has others for what it cannot run.
const (
	possible   = 0
	impossible = 1
	misused    = 3
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		os.Exit(misused)
	}
	commands := map[string]func(args []string) error{
		"try": try, "swap": swap, "watch": watch, "tree": tree, "deep": deep, "bottom": bottom, "fork": fork, "hog": hog,
	}
	run, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "%q is none of the commands\n", args[0])
		os.Exit(misused)
	}
	if err := run(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(impossible)
	}
	os.Exit(possible)
}

// try makes one attempt.
func try(args []string) error {
	if len(args) > 0 {
		if attempt, ok := attempts[args[0]]; ok {
			return attempt(args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "%v: no such attempt\n", args)
	os.Exit(misused)
	return nil
}

// need returns the arguments, of which there must be so many.
func need(args []string, n int) []string {
	if len(args) != n {
		fmt.Fprintf(os.Stderr, "%v: want %d arguments\n", args, n)
		os.Exit(misused)
	}
	return slices.Clone(args)
}
