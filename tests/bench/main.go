// The bench command measures what a user waits for, from the command line to
// the answer, and prints a table of medians and spread beside the budgets.
//
//	go run ./tests/bench                        a daemon of its own, from bin/
//	go run ./tests/bench -client incus -image X the daemon that incus finds
//
// It measures one client at a time, so that the same program compares Cuib
// with the peers on the same machine. Run it on an idle machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	client  string
	image   string
	tiny    string // For the running instances that are only there.
	driver  string
	dir     string // That the daemon's own directory is in.
	n       int
	many    int
	running int
	crowded int
	booting int
	volumes bool // Measure storage alone.
	nets    bool // Measure networks alone.
	env     []string
	host    *host // Nil if the daemon is not ours.
}

func main() {
	b := &bench{}
	flag.StringVar(&b.client, "client", "cuib", "the command to drive: cuib, incus or lxc")
	flag.StringVar(&b.image, "image", "", "image to launch; for cuib a file to import, by default the one that the tests made")
	flag.StringVar(&b.tiny, "tiny", "", "image of the instances that only run beside; for cuib a file, by default the one that the tests made")
	flag.StringVar(&b.driver, "driver", "overlay", "driver of the pool that is made for cuib")
	flag.StringVar(&b.dir, "dir", "/var/tmp", "directory for what our own daemon keeps: its file system is measured too")
	flag.IntVar(&b.n, "n", 20, "how often to measure each thing")
	flag.IntVar(&b.many, "many", 1000, "how many stopped instances to measure beside; 0 to leave that out")
	flag.IntVar(&b.running, "running", 30, "how many running instances to measure beside; 0 to leave that out")
	flag.IntVar(&b.crowded, "crowd", 0, "how many instances to run in lists of -many; 0 to leave that out")
	flag.IntVar(&b.booting, "boot", 0, "how many instances to have a daemon start, as after a boot of the host; 0 to leave that out")
	flag.BoolVar(&b.volumes, "storage", false, "measure snapshots, copies and archives instead, of a daemon of our own")
	flag.BoolVar(&b.nets, "network", false, "measure networks instead, by turns with one made by hand, of a daemon of our own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	switch {
	case b.n < 1:
		return fmt.Errorf("-n %d: at least 1", b.n)
	case b.volumes && b.client != "cuib":
		return errors.New("-storage is for -client cuib")
	case b.nets && b.client != "cuib":
		return errors.New("-network is for -client cuib")
	}
	fmt.Printf("client %s, driver %s, n %d; %s, %s\n", b.client, b.driver, b.n, kernel(), processor())
	begun := readLoad()
	defer func() { fmt.Println(begun.until(readLoad())) }()
	if b.client == "cuib" {
		err := b.ownDaemon(ctx)
		defer func() { err = errors.Join(err, b.host.close(context.WithoutCancel(ctx))) }()
		if err != nil {
			return err
		}
	}
	// What is left behind by a run that was interrupted, too.
	defer func() { err = errors.Join(err, b.deleteAll(context.WithoutCancel(ctx))) }()
	fmt.Printf("\n%-36s %8s %8s %8s %8s\n", "milliseconds", "median", "min", "max", "budget")
	parts := []func(context.Context) error{b.life, b.memory, b.lists, b.besideStopped, b.besideRunning, b.crowd, b.boot}
	if b.volumes {
		parts = []func(context.Context) error{b.storage}
	}
	if b.nets {
		parts = []func(context.Context) error{b.network}
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// budgets are in milliseconds, by the name of the row.
var budgets = map[string]float64{
	"version": 5, "launch, command to running": 80, "start": 60, "exec true": 12, "stop --force": 60,
	"snapshot (running)": 12, "snapshot (stopped)": 12, "copy from snapshot": 16, "delete --force, running": 80,
	"config set (running)": 20, "profile set, 100 running": 1000, "profile device add, 100 running": 1000,
	"state with usage, 200 running": 200, "list, 1000, 200 running": 60,
	"create without start": 15, "list, 5 stopped": 10, "list, 60 stopped": 12, "list, 1000 stopped": 60,
}

// A step is one row of the table: measured is timed, n times.
type step struct {
	name     string
	fresh    bool                  // With an instance that was launched once.
	before   []string              // Once.
	prepare  func(i int) []string  // Before each.
	settle   func(context.Context) // After prepare, before each.
	measured func(i int) []string  // Timed.
	after    []string              // Once.
}

func (b *bench) steps(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := b.step(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) step(ctx context.Context, s step) error {
	if s.fresh {
		if err := errors.Join(b.once(ctx, deleted(0)), b.once(ctx, b.launched(0))); err != nil {
			return err
		}
	}
	if err := b.once(ctx, s.before); err != nil {
		return err
	}
	all := make([]time.Duration, 0, b.n)
	for i := range b.n {
		if s.prepare != nil {
			if err := b.once(ctx, s.prepare(i)); err != nil {
				return err
			}
		}
		if s.settle != nil {
			s.settle(ctx)
		}
		took, err := b.do(ctx, s.measured(i)...)
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	row(s.name, all)
	return b.once(ctx, s.after)
}

// row prints a row of the table.
func row(name string, all []time.Duration) {
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	median := ms(all[len(all)/2])
	budget := ""
	if most := budgets[name]; most != 0 {
		budget = fmt.Sprintf("%8.0f", most)
		if median > most {
			budget += " missed"
		}
	}
	fmt.Printf("%-36s %8.1f %8.1f %8.1f %s\n", name, median, ms(all[0]), ms(all[len(all)-1]), budget)
}

func (b *bench) once(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return nil
	}
	_, err := b.do(ctx, args...)
	return err
}

// do runs the client and returns how long that took.
func (b *bench) do(ctx context.Context, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, b.client, args...)
	cmd.Env = append(os.Environ(), b.env...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if err != nil {
		return 0, fmt.Errorf("%s %v: %w: %s", b.client, args, err, out)
	}
	return took, nil
}

// deleteAll deletes the instances that have names of this program's.
func (b *bench) deleteAll(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, b.client, "list", "--format", "csv", "--columns", "n")
	cmd.Env = append(os.Environ(), b.env...)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if strings.Trim(name[1:], "0123456789") != "" || !strings.ContainsAny(name[:1], "bcklmr") {
			continue
		}
		if _, err := b.do(ctx, "delete", "--force", name); err != nil {
			return err
		}
	}
	return nil
}
