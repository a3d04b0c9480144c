package images_test

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/run"
)

// packed makes a tar of names and data in turn. A name with a slash at its
// end is that of a directory; data that begins with "->" is where a symbolic
// link leads.
func packed(t *testing.T, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for len(files) > 0 {
		name, data := files[0], files[1]
		files = files[2:]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Uid: os.Getuid(), Gid: os.Getgid(), Size: int64(len(data))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if to, ok := strings.CutPrefix(data, "->"); ok {
			h.Typeflag, h.Linkname, h.Size, data = tar.TypeSymlink, to, 0, ""
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(data))
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// shell runs a script in a directory.
func shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	return run.Cmd(t.Context(), "sh", "-ec", `cd "$1"; eval "$2"`, "sh", dir, script)
}
