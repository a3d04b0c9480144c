package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// memory prints what processes of the host an idle running instance costs
// where there is another one, which shares the programs' text.
func (b *bench) memory(ctx context.Context) error {
	for _, name := range []string{"m0", "m1"} {
		if _, err := b.do(ctx, "launch", b.image, name); err != nil {
			return err
		}
	}
	pids, err := exec.CommandContext(ctx, "pgrep", "-f", "(cuib-shim|lxc monitor).* m0").Output()
	if err != nil {
		return fmt.Errorf("find the helper of m0: %w", err)
	}
	var private int64
	for pid := range strings.FieldsSeq(string(pids)) {
		private += smaps(pid, "Private_Clean:") + smaps(pid, "Private_Dirty:")
	}
	megabytes("memory outside the guest, private", private, 0.5)
	_, err = b.do(ctx, "delete", "--force", "m0", "m1")
	return err
}

// resident prints the daemon's resident memory.
func (b *bench) resident() {
	if b.host == nil {
		return
	}
	megabytes("daemon resident", smaps(strconv.Itoa(b.host.daemon.Process.Pid), "Rss:"), 40)
}

func megabytes(name string, n int64, budget float64) {
	missed := ""
	if float64(n)/1e6 > budget {
		missed = " missed"
	}
	fmt.Printf("%-36s %8.2f MB %25.1f%s\n", name, float64(n)/1e6, budget, missed)
}

// smaps returns a figure of a process's memory, in bytes.
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

func kernel() string {
	out, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(out))
}

func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	model, n := "unknown processor", 0
	for line := range strings.Lines(string(data)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			n++
		}
	}
	return fmt.Sprintf("%d x %s", n, model)
}
