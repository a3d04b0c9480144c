package archives_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
)

// BenchmarkExport compares backups with what tar and the program of the
// algorithm do of the same files. Run it on a machine that does nothing else:
//
//	CUIB_TEST_KERNEL=1 go test ./lxd-like/internal/archives -run '^$' -bench Export -benchtime 5x
//
// CUIB_BENCH_TREE is a directory to use instead of the host's /usr/lib.
func BenchmarkExport(b *testing.B) {
	testenv.Kernel(b, "tar", "zstd", "cp")
	from := os.Getenv("CUIB_BENCH_TREE")
	if from == "" {
		from = "/usr/lib"
	}
	d := openPool(b, dir.Type(), b.TempDir())
	v := storage.Volume{Kind: storage.Instance, Name: "c1"}
	must(b, d.Create(b.Context(), v))
	at := mount(b, d, v)
	must(b, os.Mkdir(filepath.Join(at, "rootfs"), 0o755))
	testenv.Run(b, "cp", "-a", from, filepath.Join(at, "rootfs"))
	out := filepath.Join(b.TempDir(), "out")
	for _, how := range []string{"none", "zstd -1", "zstd -3", "zstd -9", "gzip -6"} {
		b.Run("tar/"+how, func(b *testing.B) {
			script := "tar --xattrs --xattrs-include='*' --acls --numeric-owner -C " + at + " -cf - rootfs | " + how + " >" + out
			if how == "none" {
				script = "tar --xattrs --xattrs-include='*' --acls --numeric-owner -C " + at + " -cf - rootfs | cat >" + out
			}
			for b.Loop() {
				if text, err := exec.CommandContext(b.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, text)
				}
			}
			sized(b, out)
		})
		b.Run("backup/"+how, func(b *testing.B) {
			c, err := archive.ParseCompression(how)
			must(b, err)
			for b.Loop() {
				f, err := os.Create(out)
				must(b, err)
				must(b, archives.Write(b.Context(), f, d, archives.Contents{
					Index:  archives.Index{Name: "c1", Backend: "dir", Pool: "p", Kind: storage.Instance, Document: api.Document{Instance: &api.Instance{}}},
					Volume: v, Mount: mounter(d),
				}, c))
				must(b, f.Close())
			}
			sized(b, out)
		})
	}
}

func sized(b *testing.B, file string) {
	b.Helper()
	st, err := os.Stat(file)
	must(b, err)
	b.ReportMetric(float64(st.Size())/1e6, "MB")
}
