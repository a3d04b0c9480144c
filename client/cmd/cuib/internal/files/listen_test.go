package files_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
)

// serveDir is the daemon's end: it serves a directory.
func serveDir(t *testing.T, dir string) func(context.Context) (net.Conn, error) {
	t.Helper()
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		s, err := sftp.NewServer(theirs, sftp.WithServerWorkingDirectory(dir))
		if err != nil {
			return nil, err
		}
		go func() {
			_ = s.Serve() // The end of the connection.
			_ = theirs.Close()
		}()
		return ours, nil
	}
}

func TestListenerServesThoseWhoLogIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := files.Listener{User: "ann", Password: "secret", Open: serveDir(t, dir), Warn: t.Logf}
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, on) }()
	dial := func(user, password string) (*ssh.Client, error) {
		return ssh.Dial("tcp", on.Addr().String(), &ssh.ClientConfig{
			User: user, Auth: []ssh.AuthMethod{ssh.Password(password)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // It is ours.
		})
	}
	for _, wrong := range [][2]string{{"ann", "guess"}, {"bob", "secret"}, {"", ""}} {
		if c, err := dial(wrong[0], wrong[1]); err == nil {
			t.Errorf("%v is let in", wrong)
			_ = c.Close()
		}
	}
	conn, err := dial("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // Sessions follow one another on a connection.
		c, err := sftp.NewClient(conn)
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "content" {
			t.Errorf("got %q, %v", data, err)
		}
		_, _ = f.Close(), c.Close()
	}
	s, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run("id"); err == nil {
		t.Error("a program is run")
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	_ = conn.Close()
}
