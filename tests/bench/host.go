package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cuib/cuib/tests/internal/surroundings"
)

// A host is the surroundings of a daemon of our own.
type host struct {
	dir    string // CUIB_DIR.
	spaces *surroundings.Namespaces
	log    *os.File
	daemon *exec.Cmd
}

// ownDaemon starts a daemon, with the images and a pool of the wanted driver.
func (b *bench) ownDaemon(ctx context.Context) error {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	b.host = &host{}
	if err := b.host.open(ctx, b.dir); err != nil {
		return err
	}
	b.client, b.env = filepath.Join(bin, "cuib"), []string{"CUIB_DIR=" + b.host.dir}
	begun := time.Now()
	if err := b.host.start(ctx, filepath.Join(bin, "cuibd")); err != nil {
		return err
	}
	if _, err := b.do(ctx, "admin", "waitready", "--timeout", "30"); err != nil {
		return fmt.Errorf("%w\n%s", err, b.host.logs())
	}
	fmt.Printf("first start of a daemon, to its answer: %d ms\n", time.Since(begun).Milliseconds())
	return b.prepare(ctx)
}

// prepare imports the images, makes the pool, and starts the daemon anew, to
// measure that with all it has to look after.
func (b *bench) prepare(ctx context.Context) error {
	cache := cmp.Or(os.Getenv("CUIB_TEST_CACHE"), "/var/tmp/cuib-test")
	debian, tiny := filepath.Join(cache, "e2e-debian.tar.gz"), cmp.Or(b.tiny, filepath.Join(cache, "e2e-tiny.tar.gz"))
	imported := []string{"image", "import", b.image}
	if b.image == "" {
		imported = []string{"image", "import", debian, debian + ".rootfs"}
	}
	steps := [][]string{
		append(imported, "--alias", "bench"),
		{"image", "import", tiny, "--alias", "tiny"},
	}
	if b.driver != "overlay" {
		steps = append(steps, []string{"storage", "create", "default", b.driver})
	}
	b.image, b.tiny = "bench", "tiny"
	steps = append(steps, []string{"launch", "bench", "m0"}, []string{"delete", "--force", "m0"})
	for _, args := range steps {
		if _, err := b.do(ctx, args...); err != nil {
			return fmt.Errorf("%w\n%s", err, b.host.logs())
		}
	}
	return nil
}

// open makes the namespaces, and a directory for the daemon in another.
func (h *host) open(ctx context.Context, parent string) error {
	dir, err := os.MkdirTemp(parent, "cuib-bench-")
	if err != nil {
		return err
	}
	h.dir = dir
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // As /var/lib/cuib is.
		return err
	}
	if h.log, err = os.Create(filepath.Join(dir, "bench.log")); err != nil {
		return err
	}
	h.spaces, err = surroundings.New(ctx, filepath.Base(dir))
	return err
}

// inside returns the command that runs args in the namespaces.
func (h *host) inside(ctx context.Context, args ...string) *exec.Cmd {
	args = h.spaces.Inside(args...)
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

func (h *host) start(ctx context.Context, program string) error {
	cmd := h.inside(context.WithoutCancel(ctx), program) // It outlives an interrupt, to clean up.
	cmd.Env = append(os.Environ(), "CUIB_DIR="+h.dir)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Interrupts are not for it.
	if err := cmd.Start(); err != nil {
		return err
	}
	h.daemon = cmd
	return nil
}

func (h *host) logs() string {
	data, _ := os.ReadFile(h.log.Name())
	return string(data)
}

// daemonWait is how long the daemon may take to end.
const daemonWait = 20 * time.Second

// close removes all that there is, whatever state it is in.
func (h *host) close(ctx context.Context) error {
	if h.dir == "" {
		return nil
	}
	var err error
	if h.daemon != nil {
		late := time.AfterFunc(daemonWait, func() { _ = h.daemon.Process.Kill() })
		err = errors.Join(h.daemon.Process.Signal(syscall.SIGTERM), h.daemon.Wait())
		late.Stop()
	}
	if h.spaces != nil {
		err = errors.Join(err, h.spaces.Kill(ctx))
		_ = h.inside(ctx, "sh", "-c", `awk -v d="$0/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | tac | xargs -r -n1 umount -l`, h.dir).Run()
		err = errors.Join(err, h.spaces.Close(ctx))
	}
	if h.log != nil {
		h.log.Close()
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}

// load is the load average, and for how long some process has waited for a
// processor by the kernel's pressure accounting.
type load struct {
	at    time.Time
	stall time.Duration
	known bool
	avg   string
}

func readLoad() load {
	l := load{at: time.Now()}
	data, err := os.ReadFile("/proc/pressure/cpu")
	if _, total, ok := strings.Cut(string(data), "total="); err == nil && ok {
		var µs int64
		_, err := fmt.Sscan(total, &µs)
		l.stall, l.known = time.Duration(µs)*time.Microsecond, err == nil
	}
	data, _ = os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(data)); len(f) > 0 {
		l.avg = f[0]
	}
	return l
}

// until says what the load was between two readings, that of the measured
// commands themselves included.
func (l load) until(end load) string {
	out := fmt.Sprintf("\nload average %s before, %s after", l.avg, end.avg)
	if l.known && end.known {
		out += fmt.Sprintf("; some process waited for a processor in %.0f%% of the time", 100*float64(end.stall-l.stall)/float64(end.at.Sub(l.at)))
	}
	return out
}
