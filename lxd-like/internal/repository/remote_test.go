package repository_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/cuib/cuib/lxd-like/internal/repository"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// throughItsLife does with a repository all that there is to do.
func throughItsLife(t *testing.T, w *world, config api.ConfigMap) {
	t.Helper()
	ctx := t.Context()
	config["password"] = "x"
	_, err := w.Create(ctx, post("r", config))
	must(t, err)
	d := w.instance("c1")
	menagerie(t, filepath.Join(d, "rootfs"))
	write(t, filepath.Join(d, "rootfs", "large"), noise(3<<20))
	w.backUp()
	write(t, filepath.Join(d, "rootfs", "more"), noise(1000))
	if second := w.backUp("instances/c1")[0]; second.Added > 1<<20 {
		t.Errorf("the second backup added %d bytes", second.Added)
	}
	must(t, w.restore(api.RepositoryRestorePost{From: "instances/c1", Name: "c2"}))
	wantSame(t, w.restored(storage.Instance, "c2"), d)
	must(t, w.run(w.Verify(ctx, "r", api.RepositoryVerifyPost{ReadData: "all"})))
	all, err := w.Backups(ctx, "r", "instances/c1")
	if err != nil || len(all) != 2 {
		t.Fatalf("got %v, %v", all, err)
	}
	must(t, w.run(w.DeleteBackup(ctx, "r", all[0].ID)))
	must(t, w.run(w.Prune(ctx, "r")))
	must(t, w.Delete(ctx, "r"))
	config["password"] = "y"
	_, err = w.Create(ctx, post("r", config))
	wantErr(t, err, errs.Invalid, "the password is not that")
	config["password"] = "x"
	_, err = w.Create(ctx, post("r", config))
	must(t, err)
	if all, err = w.Backups(ctx, "r", "instances/c1"); err != nil || len(all) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
}

// TestSFTP talks to a real sshd by a real ssh, through a pipe.
func TestSFTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	testenv.Kernel(t, "ssh", "ssh-keygen", "sshd")
	in := func(name string) string { return filepath.Join(w.dir, name) }
	for _, key := range []string{"host_key", "user_key", "stranger_key"} {
		testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", in(key))
	}
	public, err := os.ReadFile(in("user_key.pub"))
	must(t, err)
	write(t, in("authorized_keys"), public)
	write(t, in("sshd_config"), fmt.Appendf(nil, `HostKey %s
AuthorizedKeysFile %s
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
UsePAM no
Subsystem sftp internal-sftp
`, in("host_key"), in("authorized_keys")))
	must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd insists on it.
	write(t, in("ssh_config"), fmt.Appendf(nil, `Host nas
	ProxyCommand %s -i -f %s
	User root
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	LogLevel ERROR
	BatchMode yes
	IdentitiesOnly yes
`, strings.TrimSpace(testenv.Run(t, "sh", "-c", "command -v sshd")), in("sshd_config")))
	config := func(key string) api.ConfigMap {
		return api.ConfigMap{
			"location": "sftp:nas:" + in("remote"), "sftp.command": fmt.Sprintf("ssh -F %s -i %s nas -s sftp", in("ssh_config"), in(key)),
		}
	}
	_, err = w.Create(t.Context(), post("r", config("stranger_key")))
	// Its reason, "Permission denied", restic passes on only if it comes before its own end.
	wantErr(t, err, errs.Unavailable, `backup repository "r": `)
	throughItsLife(t, w, config("user_key"))
	if _, err := os.Stat(in("remote/config")); err != nil {
		t.Error(err)
	}
}

func TestSFTPCommand(t *testing.T) {
	t.Parallel()
	const begin = "ssh -o BatchMode=yes -o ServerAliveInterval=60 -o ServerAliveCountMax=4 "
	for location, want := range map[string]string{
		"/dir":                         "",
		"s3:https://h/b":               "",
		"sftp:me@host:/dir":            begin + "-s -- 'me@host' sftp",
		"sftp:host:dir":                begin + "-s -- 'host' sftp",
		"sftp://me@host:2222//dir":     begin + "-p 2222 -s -- 'me@host' sftp",
		"sftp://[2001:db8::1]:22//dir": begin + "-p 22 -s -- '2001:db8::1' sftp",
	} {
		if got := repository.SFTPCommand(map[string]string{"location": location}); got != want {
			t.Errorf("%s: got %q, want %q", location, got, want)
		}
	}
	got := repository.SFTPCommand(map[string]string{"location": "sftp:h:/d", "sftp.key": "/root/my key"})
	if want := begin + "-i '/root/my key' -o IdentitiesOnly=yes -s -- 'h' sftp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s3 := gofakes3.New(s3mem.New()).Server()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The fake believes everybody.
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=me/") {
			http.Error(rw, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>who are you</Message></Error>`, http.StatusForbidden)
			return
		}
		s3.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	location := "s3:" + server.URL + "/bucket/cuib"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := w.Create(ctx, post("r", api.ConfigMap{"location": location, "s3.access_key": "you", "s3.secret_key": "x"}))
	wantErr(t, err, errs.Unavailable, "Access Denied")
	throughItsLife(t, w, api.ConfigMap{"location": location, "s3.access_key": "me", "s3.secret_key": "hush", "s3.region": "eu-1"})
}

func TestServerIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := w.Create(ctx, post("r", api.ConfigMap{
		"location": "sftp:nowhere.invalid:/x", "sftp.command": "false", "password": "x",
	}))
	wantErr(t, err, errs.Unavailable, `repository "r"`)
}
