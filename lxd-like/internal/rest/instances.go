package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

func instanceURL(name string) string { return "/1.0/instances/" + url.PathEscape(name) }

func (s *Server) listInstances(r *http.Request) (response, error) {
	ctx := r.Context()
	if t := r.URL.Query().Get("instance-type"); t == "virtual-machine" {
		return synced([]string{}), nil
	}
	filtered := r.URL.Query().Get("filter") != ""
	brief := r.URL.Query().Get("brief") == "true" && !filtered // Ours: see [api.InstanceBrief].
	switch {
	case brief && recursion(r) == 2:
		all, err := s.Instances.Briefs(ctx, listed(r))
		return got(all, err)
	case brief && recursion(r) == 1:
		all, err := s.Instances.Heads(ctx, listed(r))
		return got(all, err)
	case recursion(r) == 2:
		all, err := s.Instances.ListFull(ctx, listed(r))
		for i := range all {
			all[i] = withState(all[i])
		}
		return list(r, all, err, func(in api.InstanceFull) string { return instanceURL(in.Name) })
	case recursion(r) == 1 || filtered:
		all, err := s.Instances.List(ctx, listed(r))
		return list(r, all, err, func(in api.Instance) string { return instanceURL(in.Name) })
	default:
		names, err := s.Instances.Names(ctx, listed(r))
		return list(r, names, err, instanceURL)
	}
}

// withState fills what clients take for granted.
func withState(in api.InstanceFull) api.InstanceFull {
	if in.State == nil {
		in.State = &api.InstanceState{Status: in.Status, StatusCode: in.StatusCode}
	}
	if in.Backups == nil {
		in.Backups = []any{}
	}
	if in.Snapshots == nil {
		in.Snapshots = []api.InstanceSnapshot{}
	}
	return in
}

// createInstance takes a backup, or makes an instance of what the body says.
func (s *Server) createInstance(r *http.Request) (response, error) {
	if !isJSON(r) {
		return s.importInstance(r)
	}
	body, err := decode[api.InstancesPost](r)
	if err != nil {
		return nil, err
	}
	if body.Type != "" && body.Type != "container" {
		return nil, errs.Newf(errs.Unsupported, "type is %q: this server runs containers only", body.Type)
	}
	if err := s.checkServer(r, body.Source.Server); err != nil {
		return nil, err
	}
	if body.Source.Type == "image" {
		body.Source.Project = view(r).Images
	}
	body.Source.InstanceOnly = body.Source.InstanceOnly || body.Source.ContainerOnly
	job, err := s.Instances.Create(r.Context(), body)
	return s.start(r, job, err)
}

// putInstances changes what all instances are doing.
func (s *Server) putInstances(r *http.Request) (response, error) {
	body, err := decode[api.InstancesPut](r)
	if err != nil {
		return nil, err
	}
	if body.State == nil {
		return nil, errs.Invalidf("field \"state\" is missing in the request body")
	}
	job, err := s.Instances.SetStates(r.Context(), view(r).Project, *body.State)
	return s.start(r, job, err)
}

func (s *Server) getInstance(r *http.Request) (response, error) {
	name := r.PathValue("name")
	if recursion(r) > 0 && r.URL.Query().Get("brief") == "true" { // Ours: see [api.InstanceSummary].
		in, err := s.Instances.Summary(r.Context(), name)
		return got(in, err)
	}
	if recursion(r) > 0 {
		in, err := s.Instances.GetFull(r.Context(), name)
		if err != nil {
			return nil, err
		}
		all, err := s.Backups.List(r.Context(), backups.Owner{Instance: name})
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			in.Backups = append(in.Backups, wireInstanceBackup(b))
		}
		return tagged(withState(in), in.InstancePut)
	}
	in, err := s.Instances.Get(r.Context(), name)
	if err != nil {
		return nil, err
	}
	return tagged(in, in.InstancePut)
}

func (s *Server) putInstance(r *http.Request) (response, error) {
	change, err := replacing[api.InstancePut](r)
	if err != nil {
		return nil, err
	}
	if isDryRun(r) {
		return s.previewInstance(r, change)
	}
	job, err := s.Instances.Update(r.Context(), r.PathValue("name"), change)
	return s.start(r, job, err)
}

func (s *Server) patchInstance(r *http.Request) (response, error) {
	change, err := changing[api.InstancePut](r)
	if err != nil {
		return nil, err
	}
	if isDryRun(r) {
		return s.previewInstance(r, change)
	}
	return done(s.Instances.UpdateNow(r.Context(), r.PathValue("name"), change))
}

func (s *Server) previewInstance(r *http.Request, change func(api.InstancePut) (api.InstancePut, error)) (response, error) {
	in, err := s.Instances.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	put, err := change(in.InstancePut)
	if err != nil {
		return nil, err
	}
	return got(s.Instances.Preview(r.Context(), in.Name, put))
}

func (s *Server) renameInstance(r *http.Request) (response, error) {
	body, err := decode[api.InstancePost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.Rename(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) deleteInstance(r *http.Request) (response, error) {
	job, err := s.Instances.Delete(r.Context(), r.PathValue("name"))
	return s.start(r, job, err)
}

func (s *Server) getState(r *http.Request) (response, error) {
	state, err := s.Instances.State(r.Context(), r.PathValue("name"))
	return got(state, err)
}

func (s *Server) putState(r *http.Request) (response, error) {
	body, err := decode[api.InstanceStatePut](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.SetState(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) rebuildInstance(r *http.Request) (response, error) {
	body, err := decode[api.InstanceRebuildPost](r)
	if err != nil {
		return nil, err
	}
	if body.Source.Type == "image" {
		body.Source.Project = view(r).Images
	}
	job, err := s.Instances.Rebuild(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) execInstance(r *http.Request) (response, error) {
	body, err := decode[api.InstanceExecPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.Exec(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) attachConsole(r *http.Request) (response, error) {
	body, err := decode[api.InstanceConsolePost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Instances.Console(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

// outputs is where the recorded output of programs is among the logs.
const outputs = "exec-output/"

func (s *Server) listLogs(r *http.Request) (response, error) {
	names, err := s.Instances.Logs(r.Context(), r.PathValue("name"))
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, outputs) })
	return s.logURLs(r, names, err)
}

func (s *Server) listOutputs(r *http.Request) (response, error) {
	names, err := s.Instances.Logs(r.Context(), r.PathValue("name"))
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, outputs) })
	return s.logURLs(r, names, err)
}

func (s *Server) logURLs(r *http.Request, names []string, err error) (response, error) {
	if err != nil {
		return nil, err
	}
	urls := make([]string, 0, len(names))
	for _, n := range names {
		urls = append(urls, project.URL(instanceURL(r.PathValue("name"))+"/logs/"+n))
	}
	return synced(urls), nil
}

func (s *Server) getLog(r *http.Request) (response, error) {
	f, err := s.Instances.Log(r.Context(), r.PathValue("name"), r.PathValue("file"))
	if err != nil {
		return nil, err
	}
	return raw{data: f, size: -1, typ: "text/plain; charset=utf-8"}.response(), nil
}

func (s *Server) deleteLog(r *http.Request) (response, error) {
	return done(s.Instances.DeleteLog(r.Context(), r.PathValue("name"), r.PathValue("file")))
}

func (s *Server) getMetadata(r *http.Request) (response, error) {
	meta, err := s.Instances.Metadata(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return tagged(meta, meta)
}

func (s *Server) putMetadata(r *http.Request) (response, error) {
	body, err := decode[api.ImageMetadata](r)
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, func() (any, error) { return s.metadata(r) }); err != nil {
		return nil, err
	}
	return done(s.Instances.SetMetadata(r.Context(), r.PathValue("name"), body))
}

func (s *Server) metadata(r *http.Request) (any, error) {
	return s.Instances.Metadata(r.Context(), r.PathValue("name"))
}

func (s *Server) patchMetadata(r *http.Request) (response, error) {
	meta, err := s.Instances.Metadata(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, func() (any, error) { return meta, nil }); err != nil {
		return nil, err
	}
	body, err := merge(meta, r)
	if err != nil {
		return nil, err
	}
	return done(s.Instances.SetMetadata(r.Context(), r.PathValue("name"), body))
}
