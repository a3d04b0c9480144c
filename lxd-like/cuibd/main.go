// Command cuibd is the daemon that keeps and runs instances.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	release "github.com/cuib/cuib/shared/version"
	"github.com/cuib/cuib/storage"
)

// version says which source the program was built from. The linker sets it.
var version = "unknown"

// config is what the command line says.
type config struct {
	dir   string
	group string
	shim  string
	lxcfs string // Empty for none of our own.
	level slog.Level
	owner storage.Owner // What other daemons are told of this one.
}

func main() {
	cfg, err := parse(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "cuibd:", err)
		os.Exit(2)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.level}))
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	makeRoom(ctx, log, sysctls)
	if err := run(ctx, log, cfg); err != nil {
		log.ErrorContext(ctx, "cuibd ends", "err", err)
		os.Exit(1)
	}
}

// parse reads the command line. It returns [flag.ErrHelp] when there is
// nothing left to do.
func parse(args []string, stdout, stderr io.Writer) (config, error) {
	cfg := config{dir: "/var/lib/cuib"}
	if dir := os.Getenv("CUIB_DIR"); dir != "" {
		cfg.dir = dir
	}
	fs := flag.NewFlagSet("cuibd", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&cfg.dir, "dir", cfg.dir, "keep all state below `DIRECTORY`; also $CUIB_DIR")
	fs.StringVar(&cfg.group, "group", "cuib", "let members of `GROUP` use the socket")
	fs.StringVar(&cfg.lxcfs, "lxcfs", lxcfs.Program, "show guests their limits with `PROGRAM`, unless the host runs one; empty for no other")
	fs.StringVar(&cfg.shim, "shim", "", "run containers with `PROGRAM`; by default cuib-shim beside cuibd, or in ../lib/cuib")
	debug := fs.Bool("debug", false, "log more")
	show := fs.Bool("version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if *show {
		fmt.Fprintf(stdout, "cuibd %s (%s)\n", release.Number, version)
		return cfg, flag.ErrHelp
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *debug {
		cfg.level = slog.LevelDebug
	}
	dir, err := filepath.Abs(cfg.dir)
	if err != nil {
		return cfg, err
	}
	cfg.dir = dir
	if cfg.shim == "" {
		cfg.shim, err = findShim()
	}
	return cfg, err
}

// findShim looks for cuib-shim where make and the packages put it.
func findShim() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	bin := filepath.Dir(self)
	places := []string{
		filepath.Join(bin, "cuib-shim"),
		filepath.Join(bin, "..", "lib", "cuib", "cuib-shim"),
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("cuib-shim not found in %v: name it with --shim", places)
}
