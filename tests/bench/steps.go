package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The command lines of single instances.
func (b *bench) launched(int) []string { return []string{"launch", b.image, "b0"} }

func deleted(int) []string { return []string{"delete", "--force", "b0"} }

func forced(int) []string { return []string{"stop", "--force", "b0"} }

func started(int) []string { return []string{"start", "b0"} }

func execTrue(int) []string { return []string{"exec", "b0", "--", "true"} }

// life measures what is done to single instances.
func (b *bench) life(ctx context.Context) error {
	snapshot := func(prefix string) func(int) []string {
		return func(i int) []string { return b.snapshot(prefix + strconv.Itoa(i)) }
	}
	copied := func(i int) []string { return []string{"copy", "b0/r0", "k" + strconv.Itoa(i)} }
	created := func(i int) []string { return []string{b.init(), b.image, "c" + strconv.Itoa(i)} }
	return b.steps(ctx, []step{
		{name: "version", measured: b.version},
		{name: "launch, command to running", before: b.launched(0), prepare: deleted, measured: b.launched},
		{name: "exec true", settle: b.booted, measured: execTrue},
		{name: "stop --force", before: forced(0), prepare: started, settle: b.booted, measured: forced},
		{name: "start", before: started(0), prepare: forced, measured: started},
		{name: "stop --force, at once", before: forced(0), prepare: started, measured: forced, after: started(0)},
		{name: "snapshot (running)", fresh: true, settle: b.booted, measured: snapshot("r")},
		{name: "copy from snapshot", measured: copied},
		{name: "snapshot (stopped)", before: forced(0), measured: snapshot("s")},
		{name: "delete --force, running", before: deleted(0), prepare: b.launched, settle: b.booted, measured: deleted},
		{name: "create without start", measured: created},
	})
}

// lists measures the list of few and of many instances.
func (b *bench) lists(ctx context.Context) error {
	if err := b.deleteAll(ctx); err != nil {
		return err
	}
	have := 0
	for _, n := range []int{5, 60, b.many} {
		if n == 0 {
			continue
		}
		for ; have < n; have++ {
			if _, err := b.do(ctx, b.init(), b.image, "l"+strconv.Itoa(have)); err != nil {
				return err
			}
		}
		one := step{name: fmt.Sprintf("list, %d stopped", n), measured: func(int) []string { return []string{"list"} }}
		if err := b.steps(ctx, []step{one}); err != nil {
			return err
		}
	}
	b.resident()
	return nil
}

// besideStopped measures beside the stopped instances that lists made.
func (b *bench) besideStopped(ctx context.Context) error {
	if b.many == 0 {
		return nil
	}
	if err := b.beside(ctx, fmt.Sprintf("beside %d stopped", b.many)); err != nil {
		return err
	}
	return b.deleteAll(ctx)
}

// besideRunning measures beside instances that run and do nothing.
func (b *bench) besideRunning(ctx context.Context) error {
	if b.running == 0 || b.tiny == "" {
		return nil
	}
	for i := range b.running {
		if _, err := b.do(ctx, "launch", b.tiny, "r"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("beside %d running", b.running)
	all := append(b.changes(), step{name: "list, " + what, measured: func(int) []string { return []string{"list"} }})
	if b.client != "lxc" { // It cannot ask for it in one request.
		all = append(all, step{name: "state with usage, " + what, measured: func(int) []string {
			return []string{"query", "/1.0/instances?recursion=2"}
		}})
	}
	if err := b.steps(ctx, all); err != nil {
		return err
	}
	b.resident()
	return b.beside(ctx, what)
}

// changes are those of configuration that reach what runs.
func (b *bench) changes() []step {
	limit := func(i int) string { return "limits.processes=" + strconv.Itoa(500+i) }
	disk := []string{"profile", "device", "remove", "default", "shared"}
	return []step{
		{
			name:     "config set (running)",
			measured: func(i int) []string { return []string{"config", "set", "r0", limit(i)} },
			after:    []string{"config", "unset", "r0", "limits.processes"},
		},
		{
			name:     fmt.Sprintf("profile set, %d running", b.running),
			measured: func(i int) []string { return []string{"profile", "set", "default", limit(i)} },
			after:    []string{"profile", "unset", "default", "limits.processes"},
		},
		{
			name: fmt.Sprintf("profile device add, %d running", b.running),
			measured: func(int) []string {
				return []string{"profile", "device", "add", "default", "shared", "disk", "source=/srv", "path=/mnt/shared"}
			},
			prepare: func(i int) []string {
				if i == 0 {
					return nil
				}
				return disk
			},
			after: disk,
		},
	}
}

// beside measures what must not grow with the number of other instances.
func (b *bench) beside(ctx context.Context, what string) error {
	return b.steps(ctx, []step{
		{name: "launch " + what, before: b.launched(0), prepare: deleted, measured: b.launched},
		{name: "exec true " + what, settle: b.booted, measured: execTrue},
		{name: "stop --force " + what, before: forced(0), prepare: started, settle: b.booted, measured: forced},
		{name: "start " + what, before: started(0), prepare: forced, measured: started, after: deleted(0)},
	})
}

// How long a guest may take to boot, and how often it is looked.
const (
	bootWait  = 20 * time.Second
	bootPause = 50 * time.Millisecond
)

// booted waits until the guest's boot is over, so that it does not compete
// with what is measured. A guest that does not say is not waited for.
func (b *bench) booted(ctx context.Context) {
	deadline := time.Now().Add(bootWait)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, b.client, "exec", "b0", "--", "systemctl", "is-system-running")
		cmd.Env = append(cmd.Environ(), b.env...)
		out, _ := cmd.Output() // Its exit code says too that all is not well.
		switch strings.TrimSpace(string(out)) {
		case "running", "degraded", "":
			return
		}
		time.Sleep(bootPause)
	}
}

func (b *bench) version(int) []string {
	if b.client == "cuib" || b.host != nil {
		return []string{"--version"}
	}
	return []string{"version"}
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
