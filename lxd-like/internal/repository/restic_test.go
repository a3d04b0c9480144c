package repository_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func TestResticIsMissing(t *testing.T) {
	w := newWorld(t)
	w.repo()
	w.instance("c1")
	t.Setenv("PATH", t.TempDir())
	_, err := w.Create(t.Context(), post("x", api.ConfigMap{"location": "/x"}))
	wantErr(t, err, errs.Unsupported, `program "restic" not found: install restic`)
	_, err = w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{})
	wantErr(t, err, errs.Unsupported, "install restic")
	_, err = w.Restore(t.Context(), "r", api.RepositoryRestorePost{All: true})
	wantErr(t, err, errs.Unsupported, "install restic")
}

// TestWhatResticSays has what several versions of it say.
func TestWhatResticSays(t *testing.T) {
	w := newWorld(t)
	w.repo()
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for says, want := range map[string]struct {
		kind errs.Kind
		text string
	}{
		"Fatal: wrong password or no key found":                                                                                      {errs.Invalid, "the password is not that"},
		`{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}`:                                  {errs.Invalid, "the password is not that"},
		"unable to create lock in backend: repository is already locked by PID 7 on h9 by root (UID 0, GID 0)\nlock was created ago": {errs.Conflict, "locked by PID 7 on h9"},
		"Fatal: repository does not exist: unable to open config file: stat /x: no such file\nIs there a repository at the following location?": {
			errs.Unavailable, "there is no repository at",
		},
		"Fatal: write /x/data: disk quota exceeded":                       {errs.Unavailable, "disk quota exceeded"},
		"Load(<x>) failed\nFatal: Get \"https://h/\": dial tcp: refused":  {errs.Unavailable, `repository "r": Get "https://h/": dial tcp: refused`},
		"pack 1 is bad\npack 2 too\nFatal: repository contains errors":    {errs.Internal, "is damaged: pack 1 is bad; pack 2 too"},
		"panic: runtime error\n\ngoroutine 7 [running]:":                  {errs.Unavailable, "see whether there is some at"},
		"panic: x\nsave: no space left on device\ngoroutine 7 [running]:": {errs.Unavailable, `"r": save: no space left on device`},
		"": {errs.Unavailable, "exit status 1"},
	} {
		script := fmt.Sprintf("#!/bin/sh\ncat >&2 <<'E'\n%s\nE\nexit 1\n", says)
		must(t, os.WriteFile(filepath.Join(bin, "restic"), []byte(script), 0o755))
		_, err := w.Backups(t.Context(), "r", "")
		wantErr(t, err, want.kind, want.text)
	}
	must(t, os.WriteFile(filepath.Join(bin, "restic"), []byte("#!/bin/sh\necho nonsense"), 0o755))
	_, err := w.Backups(t.Context(), "r", "")
	wantErr(t, err, errs.Internal, "read restic's list")
	w.instance("c1")
	wantErr(t, w.run(w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{})), errs.Internal, "did not say what it made")
}

// TestIncomplete has restic leave out a file: there is no backup then.
func TestIncomplete(t *testing.T) {
	w := newWorld(t)
	w.repo()
	w.instance("c1")
	bin := t.TempDir()
	said := filepath.Join(bin, "said")
	must(t, os.WriteFile(filepath.Join(bin, "restic"), fmt.Appendf(nil, `#!/bin/sh
case "$*" in
*" backup "*) echo '{"message_type":"summary","snapshot_id":"0123abcd"}'; echo "error: read /data/x: input/output error" >&2; exit 3 ;;
*" snapshots "*) echo "[]" ;;
*) echo "$*" >>%s ;;
esac
`, said), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	backup := func() (ops.Job, error) {
		return w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{Sources: []string{"instances/c1"}})
	}

	// While another is in the repository restic forgets nothing.
	leave, err := w.Enter(t.Context(), "r")
	must(t, err)
	job, err := backup()
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	testenv.Eventually(t, "waiting", func() bool { return op.Describe().Metadata["backup_progress"] == "waiting for the repository" })
	if _, err := os.Stat(said); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("restic was asked for something already: %v", err)
	}
	leave()
	if desc := op.Wait(t.Context()); !strings.Contains(desc.Err, "input/output error") {
		t.Errorf("the operation ended with %+v", desc)
	}
	must(t, os.Remove(said))
	wantErr(t, w.run(backup()), errs.Unavailable, "input/output error")
	data, err := os.ReadFile(said)
	if err != nil || string(data) != "--no-cache forget --quiet 0123abcd\n" {
		t.Errorf("restic was asked for %q, %v", data, err)
	}
}

// TestHangs has a restic that tells all the time how far it has not come, and
// then one that cannot be asked to stop.
func TestHangs(t *testing.T) {
	w := newWorld(t)
	w.repo()
	w.instance("c1")
	bin := t.TempDir()
	pipe := filepath.Join(bin, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const status = `echo '{"message_type":"status","percent_done":0.5,"total_bytes":4,"bytes_done":2}'`
	begin := func(does string) *ops.Op {
		script := "#!/bin/bash\ncase \"$*\" in *' backup '*) " + does + ";; *) echo '[]';; esac\n"
		must(t, os.WriteFile(filepath.Join(bin, "restic"), []byte(script), 0o755))
		job, err := w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{Sources: []string{"instances/c1"}})
		must(t, err)
		op, err := w.ops.Start(t.Context(), job)
		must(t, err)
		return op
	}
	w.SetIdle(time.Second)
	desc := begin("while :; do " + status + "; read -r -t 0.5 x <>" + pipe + "; done").Wait(t.Context())
	wantErr(t, errs.FromStatus(int(desc.ErrCode), desc.Err), errs.Unavailable, "restic hangs, and was ended: ")
	// Who does not want to wait that long need not.
	w.SetIdle(0)
	op := begin("trap '' INT; " + status + "; read -r x <>" + pipe)
	testenv.Eventually(t, "progress", func() bool {
		text, _ := op.Describe().Metadata["backup_progress"].(string)
		return strings.Contains(text, "50%")
	})
	must(t, op.Cancel())
	if desc := op.Wait(t.Context()); desc.StatusCode != api.Canceled {
		t.Errorf("the operation was canceled and ended with %+v", desc)
	}
}
