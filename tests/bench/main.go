// The bench command measures what a user waits for, from the command line to
// the answer, and prints a table of medians and spread.
//
//	go run ./tests/bench                        a daemon of its own, from bin/
//	go run ./tests/bench -client incus -image X the daemon that incus finds
//
// It measures one client at a time, so that the same program compares Cuib
// with the peers on the same machine. Run it on an idle machine.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

type bench struct {
	client string
	image  string
	pool   string
	n      int
	many   int
	env    []string
	daemon int // Pid, 0 if it is not ours.
}

func main() {
	b := &bench{}
	flag.StringVar(&b.client, "client", "cuib", "the command to drive: cuib, incus or lxc")
	flag.StringVar(&b.image, "image", "", "image to launch; for cuib a file to import, by default the one that the tests made")
	flag.StringVar(&b.pool, "driver", "overlay", "driver of the pool that is made for cuib")
	flag.IntVar(&b.n, "n", 20, "how often to measure each thing")
	flag.IntVar(&b.many, "many", 1000, "how many instances to list at last; 0 to leave that out")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.client == "cuib" {
		stop, err := b.startDaemon(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	defer func() { err = errors.Join(err, b.deleteAll(ctx)) }()
	fmt.Printf("client %s, driver %s, %s, %d runs each; milliseconds\n\n", b.client, b.pool, kernel(), b.n)
	fmt.Printf("%-34s %8s %8s %8s\n", "", "median", "min", "max")
	if err := b.life(ctx); err != nil {
		return err
	}
	return b.lists(ctx)
}

// life measures what is done to single instances.
func (b *bench) life(ctx context.Context) error {
	step := func(name string, prepare, measured func(i int) []string) error {
		return b.measure(ctx, name, prepare, measured)
	}
	launched := func(int) []string { return []string{"launch", b.image, "b0"} }
	deleted := func(int) []string { return []string{"delete", "--force", "b0"} }
	force := func(int) []string { return []string{"stop", "--force", "b0"} }
	start := func(int) []string { return []string{"start", "b0"} }
	steps := []struct {
		name               string
		prepare, measured  func(int) []string
		before, afterwards []string
	}{
		{name: "launch, command to running", measured: launched, prepare: deleted, before: []string{"launch", b.image, "b0"}},
		{name: "exec true", measured: func(int) []string { return []string{"exec", "b0", "--", "true"} }},
		{name: "stop --force", prepare: start, measured: force, before: []string{"stop", "--force", "b0"}},
		{name: "start", prepare: force, measured: start, before: []string{"start", "b0"}},
		{name: "snapshot (running)", measured: func(i int) []string { return b.snapshot("r" + strconv.Itoa(i)) }},
		{name: "copy from snapshot", measured: func(i int) []string { return []string{"copy", "b0/r0", "k" + strconv.Itoa(i)} }},
		{name: "snapshot (stopped)", measured: func(i int) []string { return b.snapshot("s" + strconv.Itoa(i)) }, before: []string{"stop", "--force", "b0"}, afterwards: []string{"start", "b0"}},
		{name: "delete --force, running", prepare: launched, measured: deleted, before: []string{"delete", "--force", "b0"}},
		{name: "create without start", measured: func(i int) []string { return []string{b.init(), b.image, "c" + strconv.Itoa(i)} }},
	}
	for _, s := range steps {
		if s.before != nil {
			if _, err := b.do(ctx, s.before...); err != nil {
				return err
			}
		}
		if err := step(s.name, s.prepare, s.measured); err != nil {
			return err
		}
		if s.afterwards != nil {
			if _, err := b.do(ctx, s.afterwards...); err != nil {
				return err
			}
		}
	}
	return b.memory(ctx)
}

// lists measures the list of few and of many instances.
func (b *bench) lists(ctx context.Context) error {
	if err := b.deleteAll(ctx); err != nil {
		return err
	}
	have := 0
	for _, n := range []int{5, 60, b.many} {
		for ; have < n; have++ {
			if _, err := b.do(ctx, b.init(), b.image, "l"+strconv.Itoa(have)); err != nil {
				return err
			}
		}
		if n == 0 {
			continue
		}
		if err := b.measure(ctx, fmt.Sprintf("list, %d stopped", n), nil, func(int) []string { return []string{"list"} }); err != nil {
			return err
		}
	}
	if b.daemon != 0 {
		fmt.Printf("%-34s %8.1f MB\n", "daemon resident", float64(resident(b.daemon))/1e6)
	}
	return nil
}

// memory prints what processes of ours an idle running instance costs.
func (b *bench) memory(ctx context.Context) error {
	if b.daemon == 0 {
		return nil
	}
	if _, err := b.do(ctx, "launch", b.image, "m0"); err != nil {
		return err
	}
	pids, err := exec.CommandContext(ctx, "pgrep", "-f", "cuib-shim.*m0").Output()
	if err != nil {
		return fmt.Errorf("find the helper of m0: %w", err)
	}
	var private int64
	for pid := range strings.FieldsSeq(string(pids)) {
		private += privateBytes(pid)
	}
	fmt.Printf("%-34s %8.2f MB\n", "memory outside the guest, private", float64(private)/1e6)
	_, err = b.do(ctx, "delete", "--force", "m0")
	return err
}

// measure runs prepare and then, timed, measured, n times.
func (b *bench) measure(ctx context.Context, name string, prepare, measured func(i int) []string) error {
	var all []time.Duration
	for i := range b.n {
		if prepare != nil {
			if _, err := b.do(ctx, prepare(i)...); err != nil {
				return fmt.Errorf("%s: prepare: %w", name, err)
			}
		}
		took, err := b.do(ctx, measured(i)...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, took)
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Printf("%-34s %8.1f %8.1f %8.1f\n", name, ms(all[len(all)/2]), ms(all[0]), ms(all[len(all)-1]))
	return nil
}

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

func (b *bench) init() string {
	if b.client == "incus" {
		return "create"
	}
	return "init"
}

func (b *bench) snapshot(name string) []string {
	if b.client == "lxc" {
		return []string{"snapshot", "b0", name}
	}
	return []string{"snapshot", "create", "b0", name}
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
		if strings.Trim(name[1:], "0123456789") != "" || !strings.ContainsAny(name[:1], "bcklm") {
			continue
		}
		if _, err := b.do(ctx, "delete", "--force", name); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts a daemon in a network namespace of its own, with the
// image and a pool of the wanted driver.
func (b *bench) startDaemon(ctx context.Context) (stop func() error, err error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/var/tmp", "cuib-bench-")
	if err != nil {
		return nil, err
	}
	ns := filepath.Base(dir)
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", ns).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w: %s", err, out)
	}
	daemon := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+ns, filepath.Join(bin, "cuibd"))
	daemon.Env = append(os.Environ(), "CUIB_DIR="+dir)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	daemon.Stdout, daemon.Stderr = log, log
	begun := time.Now()
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	b.daemon, b.client, b.env = daemon.Process.Pid, filepath.Join(bin, "cuib"), []string{"CUIB_DIR=" + dir}
	stop = func() error {
		b.daemon = 0
		err := errors.Join(daemon.Process.Signal(os.Interrupt), daemon.Wait())
		_ = exec.CommandContext(ctx, "sh", "-c", `awk -v d="$0/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | tac | xargs -r -n1 umount -l`, dir).Run()
		_ = exec.CommandContext(ctx, "sh", "-c", `ip netns pids "$0" | xargs -r kill -9; ip netns del "$0"`, ns).Run()
		return errors.Join(err, os.RemoveAll(dir))
	}
	if _, err := b.do(ctx, "admin", "waitready", "--timeout", "30"); err != nil {
		return nil, errors.Join(err, stop())
	}
	fmt.Printf("daemon answers after %d ms\n", time.Since(begun).Milliseconds())
	return stop, b.prepare(ctx, stop)
}

func (b *bench) prepare(ctx context.Context, stop func() error) error {
	imported := []string{"image", "import", b.image}
	if b.image == "" {
		file := filepath.Join(cmp.Or(os.Getenv("CUIB_TEST_CACHE"), "/var/tmp/cuib-test"), "e2e-debian.tar.gz")
		imported = []string{"image", "import", file, file + ".rootfs"}
	}
	steps := [][]string{append(imported, "--alias", "bench")}
	if b.pool != "overlay" {
		steps = append(steps, []string{"storage", "create", "default", b.pool})
	}
	b.image = "bench"
	steps = append(steps, []string{"launch", "bench", "m0"}, []string{"delete", "--force", "m0"})
	for _, args := range steps {
		if _, err := b.do(ctx, args...); err != nil {
			return errors.Join(err, stop())
		}
	}
	return nil
}

func kernel() string {
	out, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(out))
}

// resident returns a process's resident memory, in bytes.
func resident(pid int) int64 { return smaps(strconv.Itoa(pid), "Rss:") }

// privateBytes returns the memory that only this process has.
func privateBytes(pid string) int64 {
	return smaps(pid, "Private_Clean:") + smaps(pid, "Private_Dirty:")
}

func smaps(pid, key string) int64 {
	data, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n * 1024
		}
	}
	return 0
}
