package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	shim := filepath.Join(t.TempDir(), "cuib-shim")
	for name, c := range map[string]struct {
		args []string
		env  string
		want config
		err  string
	}{
		"defaults":         {[]string{"--shim", shim}, "", config{dir: "/var/lib/cuib", group: "cuib", shim: shim, lxcfs: "/usr/bin/lxcfs"}, ""},
		"environment":      {[]string{"--shim", shim}, "/srv/cuib", config{dir: "/srv/cuib", group: "cuib", shim: shim, lxcfs: "/usr/bin/lxcfs"}, ""},
		"flags":            {[]string{"--shim", shim, "--dir", "/a", "--group", "g", "--lxcfs", "", "--debug"}, "/srv/cuib", config{dir: "/a", group: "g", shim: shim, level: slog.LevelDebug}, ""},
		"too many":         {[]string{"--shim", shim, "start"}, "", config{}, `"start"`},
		"unknown":          {[]string{"--nope"}, "", config{}, "nope"},
		"no shim anywhere": {nil, "", config{}, "--shim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CUIB_DIR", c.env)
			got, err := parse(c.args, &bytes.Buffer{}, &bytes.Buffer{})
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("got error %v, want one with %q", err, c.err)
			case c.err == "" && (err != nil || got != c.want):
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	var out bytes.Buffer
	if _, err := parse([]string{"--version"}, &out, &out); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(out.String(), "cuibd ") {
		t.Errorf("--version: got %q, %v", out.String(), err)
	}
}

func TestOneDaemonADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cuib")
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "another cuibd") {
		t.Errorf("second lock: got %v, want it refused", err)
	}
	lock.Close()
	again, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // The second time the socket is there, as after a crash.
		l, err := listen(t.Context(), config{dir: dir, group: "root"})
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		info, err := os.Stat(filepath.Join(dir, "unix.socket"))
		if err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 && info.Mode().Perm() != 0o660 {
			t.Errorf("the socket has mode %o, want 660", info.Mode().Perm())
		}
		l.Close()
	}
	l, err := listen(t.Context(), config{dir: dir, group: "no-such-group"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(filepath.Join(dir, "unix.socket"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("without group the socket has mode %o, want 600", info.Mode().Perm())
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if err := notify(t.Context(), "READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v, want READY=1", buf[:n], err)
	}
}

func TestDaemonServesAndEnds(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	cfg := config{dir: filepath.Join(t.TempDir(), "cuib"), shim: "/bin/true"}
	for range 2 { // The second one finds what the first has left.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx, slog.New(slog.DiscardHandler), cfg) }()
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(cfg.dir, "unix.socket"))
			},
		}}
		for {
			resp, err := client.Get("http://cuib/1.0")
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("GET /1.0: %s", resp.Status)
				}
				break
			}
			select {
			case err := <-done:
				t.Fatalf("the daemon ended: %v", err)
			case <-time.After(10 * time.Millisecond):
			}
		}
		if err := run(ctx, slog.New(slog.DiscardHandler), cfg); err == nil {
			t.Error("a second daemon runs on the same directory")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	}
}
