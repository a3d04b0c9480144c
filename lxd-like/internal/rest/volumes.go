package rest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// volumeService keeps custom volumes, and shows those of instances and images.
type volumeService interface {
	volumeReader
	volumeChanger
	volumeImporter
	volumeSnapshotService
}

// volumeReader reads volumes. An empty pool or type stands for all.
type volumeReader interface {
	List(ctx context.Context, pool, typ string) ([]api.StorageVolume, error)
	ListFull(ctx context.Context, pool, typ string) ([]api.StorageVolumeFull, error)
	Get(ctx context.Context, pool, typ, name string) (api.StorageVolume, error)
	GetFull(ctx context.Context, pool, typ, name string) (api.StorageVolumeFull, error)
	State(ctx context.Context, pool, typ, name string) (api.StorageVolumeState, error)
	Diff(ctx context.Context, ref volumes.Ref, from, to string) ([]api.FileChange, error)
	// Files opens the volume's file system, which the caller closes.
	Files(ctx context.Context, ref volumes.Ref) (*guestfs.FS, error)
}

// volumeChanger changes custom volumes.
type volumeChanger interface {
	Create(ctx context.Context, pool string, req api.StorageVolumesPost) error
	Copy(ctx context.Context, pool string, req api.StorageVolumesPost) (ops.Job, error)
	// ImportISO reads the upload to its end.
	ImportISO(ctx context.Context, pool, name string, data io.Reader) (ops.Job, error)
	Update(ctx context.Context, ref volumes.Ref, put api.StorageVolumePut) error // Also restores a snapshot.
	Rename(ctx context.Context, ref volumes.Ref, to string) error
	Move(ctx context.Context, ref volumes.Ref, req api.StorageVolumePost) (ops.Job, error)
	Delete(ctx context.Context, ref volumes.Ref) error
}

// volumeSnapshotService keeps snapshots of custom volumes.
type volumeSnapshotService interface {
	Snapshots(ctx context.Context, pool, typ, name string) ([]api.StorageVolumeSnapshot, error)
	Snapshot(ctx context.Context, at volumes.Place) (api.StorageVolumeSnapshot, error)
	CreateSnapshot(ctx context.Context, ref volumes.Ref, req api.StorageVolumeSnapshotsPost) (ops.Job, error)
	RenameSnapshot(ctx context.Context, ref volumes.Ref, snapshot string, req api.StorageVolumeSnapshotPost) (ops.Job, error)
	UpdateSnapshot(ctx context.Context, ref volumes.Ref, snapshot string, put api.StorageVolumeSnapshotPut) error
	DeleteSnapshot(ctx context.Context, ref volumes.Ref, snapshot string) (ops.Job, error)
}

func (s *Server) volumeRoutes() []route {
	const all, one = "/1.0/storage-pools/{name}/volumes", "/1.0/storage-pools/{name}/volumes/{type}/{volume}"
	const snapshot = one + "/snapshots/{snapshot}"
	return []route{
		{get, "/1.0/storage-volumes", s.listVolumes},
		{get, "/1.0/storage-volumes/{type}", s.listVolumes},
		{get, all, s.listVolumes},
		{post, all, s.createVolume},
		{get, all + "/{type}", s.listVolumes},
		{post, all + "/{type}", s.createVolume},
		{get, one, s.getVolume},
		{put, one, s.putVolume},
		{patch, one, s.patchVolume},
		{post, one, s.renameVolume},
		{remove, one, s.deleteVolume},
		{get, one + "/state", s.getVolumeState},
		{get, one + "/diff", s.diffVolume},
		{get, one + "/files", s.getFile(s.volumeFiles)},
		{head, one + "/files", s.getFile(s.volumeFiles)},
		{post, one + "/files", s.postFile(s.volumeFiles)},
		{remove, one + "/files", s.deleteFile(s.volumeFiles)},
		{get, one + "/sftp", s.serveSFTP(s.volumeFiles)},
		{get, one + "/snapshots", s.listVolumeSnapshots},
		{post, one + "/snapshots", s.createVolumeSnapshot},
		{get, snapshot, s.getVolumeSnapshot},
		{put, snapshot, s.putVolumeSnapshot},
		{patch, snapshot, s.patchVolumeSnapshot},
		{post, snapshot, s.renameVolumeSnapshot},
		{remove, snapshot, s.deleteVolumeSnapshot},
	}
}

func volumeURL(pool, typ, name string) string {
	name, snapshot, found := strings.Cut(name, "/")
	u := poolURL(pool) + "/volumes/" + typ + "/" + url.PathEscape(name)
	if found {
		u += "/snapshots/" + url.PathEscape(snapshot)
	}
	return u
}

// volumePath is what a request's path says of a volume.
func volumePath(r *http.Request) (pool, typ, name string) {
	return r.PathValue("name"), r.PathValue("type"), r.PathValue("volume")
}

// customVolume is the custom volume of a request's path.
func customVolume(r *http.Request) (volumes.Ref, error) {
	pool, typ, name := volumePath(r)
	if err := volumes.CheckType(typ); err != nil {
		return volumes.Ref{}, err
	}
	if typ != "custom" {
		return volumes.Ref{}, errs.Invalidf("a volume of type %s cannot be changed by itself: it goes with its instance or image", typ)
	}
	return volumes.Ref{Pool: pool, Name: name}, nil
}

// listVolumes lists the volumes of all pools or of one, of all types or one.
func (s *Server) listVolumes(r *http.Request) (response, error) {
	pool, typ := r.PathValue("name"), r.PathValue("type")
	if recursion(r) == 2 {
		all, err := s.Volumes.ListFull(r.Context(), pool, typ)
		return list(r, all, err, func(v api.StorageVolumeFull) string { return volumeURL(v.Pool, v.Type, v.Name) })
	}
	all, err := s.Volumes.List(r.Context(), pool, typ)
	return list(r, all, err, func(v api.StorageVolume) string { return volumeURL(v.Pool, v.Type, v.Name) })
}

// createVolume makes an empty volume, a copy, or one of what is uploaded.
func (s *Server) createVolume(r *http.Request) (response, error) {
	pool, typ := r.PathValue("name"), r.PathValue("type")
	if err := s.Instances.WantPool(r.Context(), pool); err != nil {
		return nil, err
	}
	if !isJSON(r) {
		return s.uploadVolume(r, pool)
	}
	body, err := decode[api.StorageVolumesPost](r)
	if err != nil {
		return nil, err
	}
	if typ != "" {
		body.Type = typ
	}
	if body.Source.Name != "" || body.Source.Type != "" && body.Source.Type != "none" {
		job, err := s.Volumes.Copy(r.Context(), pool, body)
		return s.start(r, job, err)
	}
	return created(volumeURL(pool, "custom", body.Name), s.Volumes.Create(r.Context(), pool, body))
}

// uploadVolume makes a volume of a file.
func (s *Server) uploadVolume(r *http.Request, pool string) (response, error) {
	name, err := headerKey(r, scope.Volume)
	if err != nil {
		return nil, err
	}
	switch typ := header(r, "Type"); typ {
	case "", "backup":
		return s.importVolume(r, pool, name)
	case "iso":
	default:
		return nil, errs.Invalidf("header X-Incus-type is %q: want backup or iso", typ)
	}
	job, err := s.Volumes.ImportISO(r.Context(), pool, name, r.Body)
	return s.start(r, job, err)
}

// volume reads a volume and its writable part.
func (s *Server) volume(r *http.Request) (api.StorageVolume, error) {
	pool, typ, name := volumePath(r)
	return s.Volumes.Get(r.Context(), pool, typ, name)
}

func (s *Server) getVolume(r *http.Request) (response, error) {
	if recursion(r) > 0 {
		pool, typ, name := volumePath(r)
		v, err := s.Volumes.GetFull(r.Context(), pool, typ, name)
		if err != nil {
			return nil, err
		}
		return tagged(v, v.StorageVolumePut)
	}
	v, err := s.volume(r)
	if err != nil {
		return nil, err
	}
	return tagged(v, v.StorageVolumePut)
}

func (s *Server) putVolume(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	body, err := decode[api.StorageVolumePut](r)
	if err != nil {
		return nil, err
	}
	err = checkMatch(r, func() (any, error) {
		v, err := s.volume(r)
		return v.StorageVolumePut, err
	})
	if err != nil {
		return nil, err
	}
	return done(s.Volumes.Update(r.Context(), ref, body))
}

func (s *Server) patchVolume(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	v, err := s.volume(r)
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, func() (any, error) { return v.StorageVolumePut, nil }); err != nil {
		return nil, err
	}
	body, err := merge(v.StorageVolumePut, r)
	if err != nil {
		return nil, err
	}
	return done(s.Volumes.Update(r.Context(), ref, body))
}

// renameVolume gives a volume another name, or brings it into another pool.
func (s *Server) renameVolume(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	body, err := decode[api.StorageVolumePost](r)
	if err != nil {
		return nil, err
	}
	if body.Migration {
		return nil, errs.Newf(errs.Unsupported, "volumes can't be moved to another server")
	}
	if body.Name == "" {
		if body.Name, err = keyIn(r, body.Project, scope.Volume, project.Name(ref.Name)); err != nil {
			return nil, err
		}
	}
	if body.Pool != "" && body.Pool != ref.Pool || project.Of(body.Name) != project.Of(ref.Name) {
		job, err := s.Volumes.Move(r.Context(), ref, body)
		return s.start(r, job, err)
	}
	return created(volumeURL(ref.Pool, "custom", body.Name), s.Volumes.Rename(r.Context(), ref, body.Name))
}

func (s *Server) deleteVolume(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	return done(s.Volumes.Delete(r.Context(), ref))
}

func (s *Server) getVolumeState(r *http.Request) (response, error) {
	pool, typ, name := volumePath(r)
	return got(s.Volumes.State(r.Context(), pool, typ, name))
}

// diffVolume says what changed in a volume.
func (s *Server) diffVolume(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	return got(s.Volumes.Diff(r.Context(), ref, q.Get("from"), q.Get("to")))
}

func (s *Server) volumeFiles(ctx context.Context, r *http.Request) (*guestfs.FS, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	return s.Volumes.Files(ctx, ref)
}

func (s *Server) listVolumeSnapshots(r *http.Request) (response, error) {
	pool, typ, name := volumePath(r)
	all, err := s.Volumes.Snapshots(r.Context(), pool, typ, name)
	short := scope.Name(scope.VolumeKind(typ), name)
	for i := range all {
		all[i].Name = short + "/" + all[i].Name // As the peers have it in lists; alone it has its own name.
	}
	return list(r, all, err, func(snap api.StorageVolumeSnapshot) string {
		return volumeURL(pool, typ, name+strings.TrimPrefix(snap.Name, short))
	})
}

func (s *Server) createVolumeSnapshot(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	body, err := decode[api.StorageVolumeSnapshotsPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Volumes.CreateSnapshot(r.Context(), ref, body)
	return s.start(r, job, err)
}

func (s *Server) volumeSnapshot(r *http.Request) (api.StorageVolumeSnapshot, error) {
	pool, typ, name := volumePath(r)
	return s.Volumes.Snapshot(r.Context(), volumes.Place{Pool: pool, Type: typ, Volume: name, Snapshot: r.PathValue("snapshot")})
}

func (s *Server) getVolumeSnapshot(r *http.Request) (response, error) {
	snap, err := s.volumeSnapshot(r)
	if err != nil {
		return nil, err
	}
	return tagged(snap, snap.StorageVolumeSnapshotPut)
}

func (s *Server) putVolumeSnapshot(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	body, err := decode[api.StorageVolumeSnapshotPut](r)
	if err != nil {
		return nil, err
	}
	err = checkMatch(r, func() (any, error) {
		snap, err := s.volumeSnapshot(r)
		return snap.StorageVolumeSnapshotPut, err
	})
	if err != nil {
		return nil, err
	}
	return done(s.Volumes.UpdateSnapshot(r.Context(), ref, r.PathValue("snapshot"), body))
}

func (s *Server) patchVolumeSnapshot(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	snap, err := s.volumeSnapshot(r)
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, func() (any, error) { return snap.StorageVolumeSnapshotPut, nil }); err != nil {
		return nil, err
	}
	body, err := merge(snap.StorageVolumeSnapshotPut, r)
	if err != nil {
		return nil, err
	}
	return done(s.Volumes.UpdateSnapshot(r.Context(), ref, r.PathValue("snapshot"), body))
}

func (s *Server) renameVolumeSnapshot(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	body, err := decode[api.StorageVolumeSnapshotPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Volumes.RenameSnapshot(r.Context(), ref, r.PathValue("snapshot"), body)
	return s.start(r, job, err)
}

func (s *Server) deleteVolumeSnapshot(r *http.Request) (response, error) {
	ref, err := customVolume(r)
	if err != nil {
		return nil, err
	}
	job, err := s.Volumes.DeleteSnapshot(r.Context(), ref, r.PathValue("snapshot"))
	return s.start(r, job, err)
}
