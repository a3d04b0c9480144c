package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// crowd measures lists of many instances, some of which run.
func (b *bench) crowd(ctx context.Context) error {
	if b.crowded == 0 {
		return nil
	}
	if err := b.deleteAll(ctx); err != nil {
		return err
	}
	if err := b.several(b.crowded, func(i int) error { return b.once(ctx, []string{"launch", b.tiny, "r" + strconv.Itoa(i)}) }); err != nil {
		return err
	}
	usage := []string{"query", "/1.0/instances?recursion=2"}
	full := step{name: fmt.Sprintf("state with usage, %d running", b.crowded), measured: func(int) []string { return usage }}
	if err := b.steps(ctx, []step{full}); err != nil {
		return err
	}
	stopped := max(0, b.many-b.crowded)
	if err := b.several(stopped, func(i int) error { return b.once(ctx, []string{b.init(), b.tiny, "l" + strconv.Itoa(i)}) }); err != nil {
		return err
	}
	list := step{name: fmt.Sprintf("list, %d, %d running", b.crowded+stopped, b.crowded), measured: func(int) []string { return []string{"list"} }}
	if err := b.steps(ctx, []step{list}); err != nil {
		return err
	}
	b.resident()
	return b.deleteAll(ctx)
}

// several calls fn with the numbers below n, two at once.
func (b *bench) several(n int, fn func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(2)
	for i := range n {
		g.Go(func() error { return fn(i) })
	}
	return g.Wait()
}

// boot measures the start of a daemon that finds instances to start, as after
// a boot of the host, until they run, and until their guests have booted. It
// tells how busy the host's processors were.
func (b *bench) boot(ctx context.Context) error {
	if b.booting == 0 || b.host == nil {
		return nil
	}
	if err := b.deleteAll(ctx); err != nil {
		return err
	}
	if err := b.several(b.booting, func(i int) error { return b.once(ctx, []string{b.init(), b.image, "m" + strconv.Itoa(i)}) }); err != nil {
		return err
	}
	if err := errors.Join(b.once(ctx, []string{"profile", "set", "default", "boot.autostart=true"}), b.host.restart(ctx)); err != nil {
		return err
	}
	begun, used := time.Now(), readProcessors()
	report := func(what string) {
		fmt.Printf("%-36s %8.0f ms; processors busy in %.0f%% of the time\n",
			fmt.Sprintf("boot, %d instances %s", b.booting, what), float64(time.Since(begun).Milliseconds()), 100*readProcessors().busySince(used))
	}
	for running := 0; running < b.booting; {
		cmd := exec.CommandContext(ctx, b.client, "list", "status=running", "--format", "csv", "--columns", "n")
		cmd.Env = append(os.Environ(), b.env...)
		out, err := cmd.Output()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil { // Or else it does not answer yet.
			running = strings.Count(string(out), "\n")
		}
		time.Sleep(bootPause)
	}
	report("running")
	for i := range b.booting { // It says how it went by its exit code, which is not what is measured.
		cmd := exec.CommandContext(ctx, b.client, "exec", "m"+strconv.Itoa(i), "--", "systemctl", "is-system-running", "--wait")
		cmd.Env = append(os.Environ(), b.env...)
		_ = cmd.Run()
	}
	report("booted")
	return errors.Join(b.once(ctx, []string{"profile", "unset", "default", "boot.autostart"}), b.deleteAll(ctx))
}

// restart ends the daemon and starts it again.
func (h *host) restart(ctx context.Context) error {
	program := h.daemon.Args[len(h.daemon.Args)-1]
	if err := errors.Join(h.daemon.Process.Signal(syscall.SIGTERM), h.daemon.Wait()); err != nil {
		return err
	}
	return h.start(ctx, program)
}

// processors are for how long those of the host were busy, and there, in ticks.
type processors struct{ busy, all int64 }

func readProcessors() (p processors) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, word := range strings.Fields(line) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || i > 8 { // Those of guests are in others.
			continue
		}
		p.all += n
		if i != 4 && i != 5 { // Idle, and waiting for a disk.
			p.busy += n
		}
	}
	return p
}

// busySince returns the part of the time since then.
func (p processors) busySince(then processors) float64 {
	return float64(p.busy-then.busy) / float64(max(1, p.all-then.all))
}
