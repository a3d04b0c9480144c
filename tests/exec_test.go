package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// startTiny starts a daemon with one running instance, c1.
func startTiny(t *testing.T) *host {
	t.Helper()
	h := startHost(t)
	if err := h.image("tiny", "tiny"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.user(filepath.Join(binDir, "cuib"), "launch", "tiny", "c1"); err != nil {
		t.Fatal(err)
	}
	return h
}

// execCmd returns a command that runs args in c1.
func (h *host) exec(stdin io.Reader, stdout io.Writer, args ...string) error {
	cmd := command(append([]string{filepath.Join(binDir, "cuib"), "exec", "c1", "--"}, args...)...)
	cmd.Env = os.Environ()
	for k, v := range h.env() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, stderr.String())
	}
	return nil
}

// TestExecKeepsEveryByte sends 1 GiB into an instance and gets it back, and
// neither loses nor reorders a byte.
func TestExecKeepsEveryByte(t *testing.T) {
	h := startTiny(t)
	const size = 1 << 30
	in, out := sha256.New(), sha256.New()
	src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), in)
	counter := &countingWriter{w: out}
	if err := h.exec(src, counter, "cat"); err != nil {
		t.Fatal(err)
	}
	if counter.n != size {
		t.Errorf("%d bytes came back, want %d", counter.n, size)
	}
	if got, want := hex.EncodeToString(out.Sum(nil)), hex.EncodeToString(in.Sum(nil)); got != want {
		t.Errorf("hash of what came back is %s, want %s", got, want)
	}
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}

// TestExecManyAtOnce runs 50 programs at once, each with its own input.
func TestExecManyAtOnce(t *testing.T) {
	h := startTiny(t)
	var wg sync.WaitGroup
	failed := make(chan error, 50)
	for i := range 50 {
		wg.Go(func() {
			want := fmt.Sprintf("input %d\n", i)
			var got strings.Builder
			err := h.exec(strings.NewReader(want), &got, "cat")
			if err == nil && got.String() != want {
				err = fmt.Errorf("got %q, want %q", got.String(), want)
			}
			if err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}
