package runtime

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 3, ""}, {"a\nb\nc\n", 1, "c\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\nb\n", 5, "a\nb\n"}, {"\n\n", 1, "\n"}, {"a", 1, "a"},
	} {
		if got := string(lastLines([]byte(c.in), c.n)); got != c.want {
			t.Errorf("the last %d of %q: got %q, want %q", c.n, c.in, got, c.want)
		}
	}
}

// write appends to a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestTailFollowsALogThatIsEmptiedAndMoved(t *testing.T) {
	r := &Runtime{Dir: t.TempDir(), running: map[string]*container{"c1": {}}}
	path := filepath.Join(r.Dir, "c1", consoleFile)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := r.ConsoleLog(t.Context(), "c1", LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	next := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(log, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	write(t, path, "first\n") // The file is made only now.
	next("first\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, path, "2nd\n")
	next("2nd\n")
	write(t, path, "before it moves\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "after\n")
	next("before it moves\nafter\n")
	write(t, path, "the end\n")
	r.mu.Lock()
	delete(r.running, "c1")
	r.mu.Unlock()
	rest, err := io.ReadAll(log)
	if err != nil || string(rest) != "the end\n" {
		t.Errorf("got %q, %v", rest, err)
	}
	whole, err := r.ConsoleLog(t.Context(), "c1", LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if data, err := io.ReadAll(whole); err != nil || !strings.HasSuffix(string(data), "before it moves\nafter\nthe end\n") {
		t.Errorf("the whole log: %q, %v", data, err)
	}
}

func TestTailEndsWithItsContext(t *testing.T) {
	r := &Runtime{Dir: t.TempDir(), running: map[string]*container{"c1": {}}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	log, err := r.ConsoleLog(ctx, "c1", LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if data, err := io.ReadAll(log); err != nil || len(data) > 0 {
		t.Errorf("got %q, %v", data, err)
	}
}
