package rest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// backupService keeps backups of instances and volumes.
type backupService interface {
	List(ctx context.Context, o backups.Owner) ([]db.Backup, error)
	Get(ctx context.Context, o backups.Owner, name string) (db.Backup, error)
	Create(ctx context.Context, o backups.Owner, req backups.Request) (ops.Job, error)
	Rename(ctx context.Context, o backups.Owner, name, to string) (ops.Job, error)
	Delete(ctx context.Context, o backups.Owner, name string) (ops.Job, error)
	// Export gives the archive of a backup, and Direct one of what there is
	// now. The caller closes them.
	Export(ctx context.Context, o backups.Owner, name string) (backups.Stream, error)
	Direct(ctx context.Context, o backups.Owner, req backups.Request) (backups.Stream, error)
}

// instanceImporter makes instances of archives. It reads the upload to its
// end before it answers.
type instanceImporter interface {
	Import(ctx context.Context, up instances.Upload) (ops.Job, error)
}

// volumeImporter makes custom volumes of archives, likewise.
type volumeImporter interface {
	Import(ctx context.Context, up volumes.Upload) (ops.Job, error)
}

// An owned is a kind of thing that has backups.
type owned struct {
	owner   func(r *http.Request) (backups.Owner, error)
	request func(r *http.Request) (backups.Request, error) // Of a new backup.
	wire    func(b db.Backup) any
	url     func(r *http.Request) string
}

func (s *Server) backupRoutes() []route {
	out := s.routesOf("/1.0/instances/{name}/backups", owned{
		owner:   func(r *http.Request) (backups.Owner, error) { return backups.Owner{Instance: r.PathValue("name")}, nil },
		request: instanceBackup,
		wire:    wireInstanceBackup,
		url:     func(r *http.Request) string { return instanceURL(r.PathValue("name")) },
	})
	return append(out, s.routesOf("/1.0/storage-pools/{name}/volumes/{type}/{volume}/backups", owned{
		owner: func(r *http.Request) (backups.Owner, error) {
			ref, err := customVolume(r)
			return backups.Owner{Volume: ref}, err
		},
		request: volumeBackup,
		wire:    wireVolumeBackup,
		url:     func(r *http.Request) string { return volumeURL(volumePath(r)) },
	})...)
}

func (s *Server) routesOf(at string, of owned) []route {
	return []route{
		{get, at, s.ofOwner(of, s.listBackups)},
		{post, at, s.ofOwner(of, s.createBackup)},
		{get, at + "/{backup}", s.ofOwner(of, s.getBackup)},
		{post, at + "/{backup}", s.ofOwner(of, s.renameBackup)},
		{remove, at + "/{backup}", s.ofOwner(of, s.deleteBackup)},
		{get, at + "/{backup}/export", s.ofOwner(of, s.exportBackup)},
	}
}

// ofOwner finds what the backups of a request are of.
func (s *Server) ofOwner(of owned, fn func(*http.Request, owned, backups.Owner) (response, error)) handle {
	return func(r *http.Request) (response, error) {
		o, err := of.owner(r)
		if err != nil {
			return nil, err
		}
		return fn(r, of, o)
	}
}

// backupName is the backup that a request is about. LXD 5.0's clients take
// the whole URL of a new backup for its name, with the project.
func backupName(r *http.Request) string {
	name, _, _ := strings.Cut(path.Base(r.PathValue("backup")), "?project=")
	return name
}

func instanceBackup(r *http.Request) (backups.Request, error) {
	body, err := decode[api.InstanceBackupsPost](r)
	if err == nil && body.RootOnly {
		err = errs.Newf(errs.Unsupported, "root_only is not supported: an archive has the root disk, and no others")
	}
	return backups.Request{
		Name: body.Name, Expires: body.ExpiresAt, Only: body.InstanceOnly || body.ContainerOnly,
		Optimized: body.OptimizedStorage, Compression: body.CompressionAlgorithm,
	}, err
}

func volumeBackup(r *http.Request) (backups.Request, error) {
	body, err := decode[api.StorageVolumeBackupsPost](r)
	return backups.Request{
		Name: body.Name, Expires: body.ExpiresAt, Only: body.VolumeOnly,
		Optimized: body.OptimizedStorage, Compression: body.CompressionAlgorithm,
	}, err
}

func wireInstanceBackup(b db.Backup) any {
	return api.InstanceBackup{
		Name: b.Name, CreatedAt: b.Created, ExpiresAt: b.Expires,
		InstanceOnly: b.Options.Only, ContainerOnly: b.Options.Only, OptimizedStorage: b.Options.Optimized,
	}
}

func wireVolumeBackup(b db.Backup) any {
	return api.StorageVolumeBackup{
		Name: b.Name, CreatedAt: b.Created, ExpiresAt: b.Expires, VolumeOnly: b.Options.Only, OptimizedStorage: b.Options.Optimized,
	}
}

func (s *Server) listBackups(r *http.Request, of owned, o backups.Owner) (response, error) {
	all, err := s.Backups.List(r.Context(), o)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(all))
	for _, b := range all {
		if recursion(r) > 0 {
			out = append(out, of.wire(b))
		} else {
			out = append(out, project.URL(of.url(r)+"/backups/"+url.PathEscape(b.Name)))
		}
	}
	return synced(out), nil
}

// createBackup records a backup or, if that is what the client takes for an
// answer, gives it at once.
func (s *Server) createBackup(r *http.Request, of owned, o backups.Owner) (response, error) {
	req, err := of.request(r)
	if err != nil {
		return nil, err
	}
	if r.Header.Get("Accept") == "application/octet-stream" {
		stream, err := s.Backups.Direct(r.Context(), o, req)
		return s.streamed(stream), err
	}
	job, err := s.Backups.Create(r.Context(), o, req)
	return s.start(r, job, err)
}

func (s *Server) getBackup(r *http.Request, of owned, o backups.Owner) (response, error) {
	b, err := s.Backups.Get(r.Context(), o, backupName(r))
	if err != nil {
		return nil, err
	}
	wire := of.wire(b)
	return tagged(wire, wire)
}

func (s *Server) renameBackup(r *http.Request, _ owned, o backups.Owner) (response, error) {
	body, err := decode[api.BackupPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Backups.Rename(r.Context(), o, backupName(r), body.Name)
	return s.start(r, job, err)
}

func (s *Server) deleteBackup(r *http.Request, _ owned, o backups.Owner) (response, error) {
	job, err := s.Backups.Delete(r.Context(), o, backupName(r))
	return s.start(r, job, err)
}

func (s *Server) exportBackup(r *http.Request, _ owned, o backups.Owner) (response, error) {
	stream, err := s.Backups.Export(r.Context(), o, backupName(r))
	return s.streamed(stream), err
}

// streamed is the answer that an archive is. What goes wrong before there is
// anything of it is an answer too; later the connection is cut off, as there
// is no other way to say that the archive is not whole.
func (s *Server) streamed(stream backups.Stream) response {
	return func(w http.ResponseWriter, r *http.Request) error {
		defer stream.Close()
		out := &begun{w: w, name: stream.Name}
		if r.Method == http.MethodHead {
			out.begin()
			return nil
		}
		err := stream.Write(r.Context(), out)
		if err == nil || !out.did {
			return err
		}
		if !errs.Is(err, errs.Canceled) && r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "an export was cut off", "path", r.URL.Path, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// begun is an answer that begins with what is first written.
type begun struct {
	w    http.ResponseWriter
	name string
	did  bool
}

func (b *begun) begin() {
	b.did = true
	h := b.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf("inline;filename=%q", b.name))
	b.w.WriteHeader(http.StatusOK)
}

func (b *begun) Write(p []byte) (int, error) {
	if !b.did {
		b.begin()
	}
	return b.w.Write(p)
}

// importInstance makes an instance of an archive.
func (s *Server) importInstance(r *http.Request) (response, error) {
	up := instances.Upload{Data: r.Body, Pool: header(r, "Pool"), Project: view(r).Project}
	if err := checkUpload(r); err != nil {
		return nil, err
	}
	var err error
	if up.Name, err = headerKey(r, scope.Instance); err != nil {
		return nil, err
	}
	if up.Config, up.Devices, err = overrides(r); err != nil {
		return nil, err
	}
	job, err := s.Instances.Import(r.Context(), up)
	return s.start(r, job, err)
}

// importVolume makes a custom volume of an archive.
func (s *Server) importVolume(r *http.Request, pool, name string) (response, error) {
	if err := checkUpload(r); err != nil {
		return nil, err
	}
	job, err := s.Volumes.Import(r.Context(), volumes.Upload{Data: r.Body, Project: view(r).Project, Pool: pool, Name: name})
	return s.start(r, job, err)
}

func checkUpload(r *http.Request) error {
	if typ := r.Header.Get("Content-Type"); !strings.HasPrefix(typ, "application/octet-stream") {
		return errs.Invalidf("header Content-Type is %q: want application/json, or application/octet-stream for a backup", typ)
	}
	return nil
}
