package rest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/errs"
)

// header returns a header that the peers prefix with their names.
func header(r *http.Request, name string) string {
	for _, prefix := range []string{"X-Cuib-", "X-Incus-", "X-Lxd-"} {
		if v := r.Header.Get(prefix + name); v != "" {
			return v
		}
	}
	return ""
}

// An opener opens the file system that a request is about.
type opener func(context.Context, *http.Request) (*guestfs.FS, error)

func (s *Server) instanceFiles(ctx context.Context, r *http.Request) (*guestfs.FS, error) {
	return s.Instances.Files(ctx, r.PathValue("name"))
}

// files opens the file system of a request, and says which path of it is
// meant.
func (open opener) files(r *http.Request) (*guestfs.FS, string, error) {
	p := r.URL.Query().Get("path")
	if p == "" {
		return nil, "", errs.Invalidf("path is missing: it names a file")
	}
	fs, err := open(r.Context(), r)
	return fs, path.Clean("/" + p), err // Older clients leave the first slash out.
}

// getFile answers with the contents of a file, the names in a directory, or
// the target of a symbolic link.
func (*Server) getFile(open opener) handle {
	return func(r *http.Request) (response, error) {
		fs, name, err := open.files(r)
		if err != nil {
			return nil, err
		}
		resp, err := readFile(fs, name, r.Method)
		if err != nil {
			fs.Close()
			return nil, err
		}
		return func(w http.ResponseWriter, r *http.Request) error {
			defer fs.Close()
			return resp(w, r)
		}, nil
	}
}

func readFile(fs *guestfs.FS, name, method string) (response, error) {
	f, err := fs.Stat(name)
	if err != nil {
		return nil, err
	}
	out := raw{data: io.NopCloser(bytes.NewReader(nil)), size: -1, name: path.Base(name), modified: f.Modified}
	switch {
	case f.Type == guestfs.Directory:
		names, err := fs.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return described(synced(names), f), nil
	case f.Type == guestfs.Symlink:
		target, err := fs.ReadLink(name)
		if err != nil {
			return nil, err
		}
		out.data, out.size = io.NopCloser(strings.NewReader(target)), int64(len(target))
	case f.Type != guestfs.Regular:
		return nil, errs.Invalidf("%s is neither file nor directory nor symbolic link", name)
	case method == http.MethodHead:
		out.size = f.Size
	default: // Its size may change, or be unknown, as below /proc.
		if out.data, err = fs.Open(name); err != nil {
			return nil, err
		}
	}
	return described(out.response(), f), nil
}

// described adds what there is to say of a file, for either peer's clients.
func described(resp response, f guestfs.File) response {
	for key, value := range map[string]string{
		"Uid": fmt.Sprint(f.UID), "Gid": fmt.Sprint(f.GID), "Mode": fmt.Sprintf("%04o", f.Mode),
		"Type": f.Type, "Modified": f.Modified.UTC().Format(time.RFC3339Nano),
	} {
		for _, prefix := range []string{"X-Incus-", "X-LXD-"} {
			resp = withHeader(resp, prefix+key, value)
		}
	}
	return resp
}

// postFile writes a file, or makes a directory or a symbolic link.
func (*Server) postFile(open opener) handle {
	return func(r *http.Request) (response, error) { return writeFile(r, open) }
}

func writeFile(r *http.Request, open opener) (response, error) {
	f, err := fileOf(r)
	if err != nil {
		return nil, err
	}
	appending := false
	switch write := header(r, "Write"); write {
	case "", "overwrite":
	case "append":
		appending = true
	default:
		return nil, errs.Invalidf("header X-Incus-write is %q: want overwrite or append", write)
	}
	fs, name, err := open.files(r)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	switch f.Type {
	case "", guestfs.Regular:
		if appending {
			return done(fs.Append(name, r.Body, f))
		}
		return done(fs.Write(name, r.Body, f))
	case guestfs.Directory:
		return done(fs.Mkdir(name, f))
	case guestfs.Symlink:
		target, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return nil, errs.Newf(errs.Canceled, "read the request body: %w", err)
		}
		return done(fs.Symlink(name, string(target), f))
	default:
		return nil, errs.Invalidf("header X-Incus-type is %q: want %s, %s or %s", f.Type, guestfs.Regular, guestfs.Directory, guestfs.Symlink)
	}
}

// fileOf reads the headers that describe a file.
func fileOf(r *http.Request) (guestfs.File, error) {
	f := guestfs.File{Type: header(r, "Type"), UID: -1, GID: -1, Mode: -1}
	for _, h := range []struct {
		name string
		base int
		max  int64
		to   *int64
	}{{"Uid", 10, 1<<32 - 2, &f.UID}, {"Gid", 10, 1<<32 - 2, &f.GID}, {"Mode", 8, 0o7777, &f.Mode}} {
		text := header(r, h.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(text, "0o"), h.base, 64)
		if err != nil || n < -1 || n > h.max {
			return f, errs.Invalidf("header X-Incus-%s is %q: want a number in base %d", strings.ToLower(h.name), text, h.base)
		}
		*h.to = n
	}
	return f, nil
}

func (*Server) deleteFile(open opener) handle {
	return func(r *http.Request) (response, error) {
		fs, name, err := open.files(r)
		if err != nil {
			return nil, err
		}
		defer fs.Close()
		return done(fs.Remove(name))
	}
}

// serveSFTP turns the connection into one of the SFTP protocol.
func (s *Server) serveSFTP(open opener) handle {
	return func(r *http.Request) (response, error) { return s.switchToSFTP(r, open) }
}

func (s *Server) switchToSFTP(r *http.Request, open opener) (response, error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "sftp") {
		return nil, errs.Invalidf("header Upgrade is %q: want sftp", r.Header.Get("Upgrade"))
	}
	ctx := r.Context()
	enter := func() (*guestfs.FS, error) { return open(ctx, r) }
	fs, err := enter()
	if err != nil {
		return nil, err
	}
	fs.Close()
	return switchTo("sftp", func(conn net.Conn) {
		stop := s.untilDrained(func() { conn.Close() }) //nolint:errcheck // It ends what goes on.
		defer stop()
		if err := guestfs.ServeSFTP(conn, enter); err != nil {
			s.Log.DebugContext(ctx, "sftp ended", "err", err)
		}
	}), nil
}
