package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A node is a file as restic describes it.
type node struct {
	StructType string      `json:"struct_type"` // node; other lines are about the snapshot.
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Path       string      `json:"path"`
	UID        int64       `json:"uid"`
	GID        int64       `json:"gid"`
	Size       int64       `json:"size"`
	Mode       fs.FileMode `json:"mode"`
	ModTime    time.Time   `json:"mtime"`
}

// A File is a file in a backup. Who gets it closes Data.
type File struct {
	Name string
	Size int64
	Time time.Time
	Data io.ReadCloser
}

// inside returns the path that a file of a source has in its backups.
func inside(snap snapshot, file string) string {
	clean := path.Clean("/" + file)
	switch src := snap.tag(tagSource); {
	case strings.HasPrefix(src, instancesDir):
		return path.Join("/", dataName, "rootfs", clean)
	case strings.HasPrefix(src, volumesDir):
		return path.Join("/", dataName, clean)
	}
	return clean
}

// Open opens a file of a backup, or lists a directory: one of both is nil.
func (s *Service) Open(ctx context.Context, name, id, file string) (*File, []api.RepositoryFile, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	snap, err := s.find(ctx, r, id)
	if err != nil {
		return nil, nil, err
	}
	at := inside(snap, file)
	nodes, err := s.nodes(ctx, r, snap.ID, at)
	if err != nil {
		return nil, nil, err
	}
	if at == "/" {
		return nil, describeFiles(nodes), nil
	}
	if len(nodes) == 0 || nodes[0].Path != at {
		return nil, nil, errs.NotFoundf("backup %s has no file %q", snap.ID[:8], file)
	}
	switch self := nodes[0]; self.Type {
	case "file":
		data, err := s.dump(ctx, r, snap.ID, at)
		return &File{self.Name, self.Size, self.ModTime, data}, nil, err
	case "dir":
		return nil, describeFiles(nodes[1:]), nil
	default:
		return nil, nil, errs.Invalidf("%q in backup %s is neither a file nor a directory, but a %s", file, snap.ID[:8], self.Type)
	}
}

func describeFiles(nodes []node) []api.RepositoryFile {
	out := make([]api.RepositoryFile, 0, len(nodes))
	for _, n := range nodes {
		if n.Type == "dir" {
			n.Type = "directory"
		}
		mode := int(n.Mode.Perm())
		for bit, unixBit := range map[fs.FileMode]int{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
			if n.Mode&bit != 0 {
				mode |= unixBit
			}
		}
		out = append(out, api.RepositoryFile{Name: n.Name, Type: n.Type, Size: n.Size, Mode: mode, UID: n.UID, GID: n.GID, ModifiedAt: n.ModTime})
	}
	return out
}

// nodes returns a file of a backup or, after it, what is in the directory.
func (s *Service) nodes(ctx context.Context, r db.Repository, id, at string) ([]node, error) {
	var out bytes.Buffer
	err := s.restic(ctx, r, call{args: []string{"ls", "--json", "--no-lock", "--", id, at}, stdout: &out})
	if err != nil {
		return nil, err
	}
	var nodes []node
	for dec := json.NewDecoder(&out); ; {
		var n node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return nodes, nil
		}
		if err != nil {
			return nil, err
		}
		// Without a path restic lists all that there is below.
		if n.StructType == "node" && (at != "/" || path.Dir(n.Path) == "/") {
			nodes = append(nodes, n)
		}
	}
}

// dump opens a file of a backup.
func (s *Service) dump(ctx context.Context, r db.Repository, id, at string) (io.ReadCloser, error) {
	p, err := s.program(r, call{args: []string{"dump", "--quiet", "--no-lock", "--", id, at}})
	if err != nil {
		return nil, err
	}
	return p.Output(ctx), nil
}

// small reads a small file of a backup whole.
func (s *Service) small(ctx context.Context, r db.Repository, id, name string) ([]byte, error) {
	var out bytes.Buffer
	err := s.restic(ctx, r, call{args: []string{"dump", "--quiet", "--no-lock", "--", id, "/" + name}, stdout: &out})
	return out.Bytes(), err
}
