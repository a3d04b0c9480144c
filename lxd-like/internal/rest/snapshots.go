package rest

import (
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func (s *Server) listSnapshots(r *http.Request) (response, error) {
	instance := r.PathValue("name")
	if recursion(r) > 0 && r.URL.Query().Get("brief") == "true" { // Ours: see [api.SnapshotSummary].
		return got(s.Instances.SnapshotSummaries(r.Context(), instance))
	}
	all, err := s.Instances.Snapshots(r.Context(), instance)
	return list(r, all, err, func(snap api.InstanceSnapshot) string {
		return instanceURL(instance) + "/snapshots/" + url.PathEscape(snap.Name)
	})
}

func (s *Server) createSnapshot(r *http.Request) (response, error) {
	body, err := decode[api.InstanceSnapshotsPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.CreateSnapshot(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) getSnapshot(r *http.Request) (response, error) {
	snap, err := s.Instances.Snapshot(r.Context(), r.PathValue("name"), r.PathValue("snapshot"))
	if err != nil {
		return nil, err
	}
	return tagged(snap, snap.InstanceSnapshotPut)
}

func (s *Server) putSnapshot(r *http.Request) (response, error) {
	change, err := replacing[api.InstanceSnapshotPut](r)
	return s.updateSnapshot(r, change, err)
}

func (s *Server) patchSnapshot(r *http.Request) (response, error) {
	change, err := changing[api.InstanceSnapshotPut](r)
	return s.updateSnapshot(r, change, err)
}

func (s *Server) updateSnapshot(r *http.Request, change func(api.InstanceSnapshotPut) (api.InstanceSnapshotPut, error), err error) (response, error) {
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.UpdateSnapshot(r.Context(), r.PathValue("name"), r.PathValue("snapshot"), change)
	return s.start(r, job, err)
}

func (s *Server) renameSnapshot(r *http.Request) (response, error) {
	body, err := decode[api.InstanceSnapshotPost](r)
	if err != nil {
		return nil, err
	}
	if body.Migration {
		return nil, errs.Newf(errs.Unsupported, "snapshots can't be moved to another server")
	}
	job, err := s.Instances.RenameSnapshot(r.Context(), r.PathValue("name"), r.PathValue("snapshot"), body)
	return s.start(r, job, err)
}

func (s *Server) deleteSnapshot(r *http.Request) (response, error) {
	job, err := s.Instances.DeleteSnapshot(r.Context(), r.PathValue("name"), r.PathValue("snapshot"))
	return s.start(r, job, err)
}

// deleteSnapshots deletes several. It is of the extension cuib_snapshot_bulk.
func (s *Server) deleteSnapshots(r *http.Request) (response, error) {
	body, err := decode[api.InstanceSnapshotsDelete](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.DeleteSnapshots(r.Context(), r.PathValue("name"), body.Names)
	return s.start(r, job, err)
}
