package repository

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// hostDocument describes what the host has beside instances and volumes.
func (s *Service) hostDocument(ctx context.Context) ([]byte, error) {
	doc := api.HostDocument{Dir: s.Dir}
	config, err := s.Config.Config(ctx)
	if err != nil {
		return nil, err
	}
	doc.Config = config
	if doc.Pools, err = s.Pools.List(ctx); err != nil {
		return nil, err
	}
	if doc.Projects, err = s.Projects.List(ctx); err != nil {
		return nil, err
	}
	if doc.NetworksDocument, err = s.Nets.Document(ctx); err != nil {
		return nil, err
	}
	if doc.Profiles, err = s.Instances.Profiles(ctx); err != nil {
		return nil, err
	}
	if doc.Aliases, err = s.Images.Aliases(ctx); err != nil {
		return nil, err
	}
	for i, a := range doc.Aliases {
		doc.Aliases[i].Name = project.Key(a.Project, a.Name)
	}
	// Who uses them is in the documents of those.
	for i := range doc.Pools {
		doc.Pools[i].UsedBy = nil
	}
	for i := range doc.Projects {
		doc.Projects[i].UsedBy = nil
	}
	for i := range doc.Profiles {
		doc.Profiles[i].UsedBy = nil
	}
	return json.MarshalIndent(doc, "", "  ") // JSON is YAML.
}

// sum identifies the document of a host.
func sum(doc []byte) string {
	h := sha256.Sum256(doc)
	return hex.EncodeToString(h[:8])
}

// A rebuilding is the host that is made again of a repository.
type rebuilding struct {
	repo     db.Repository
	host     snapshot // Zero if there is none.
	sources  []restoring
	restored []string
	present  []string // What was there already.
	failed   []error
}

// restoreAllJob makes again all that a host had, in the order in which each
// needs what came before. What is there is left alone, so that it can be
// repeated.
func (s *Service) restoreAllJob(ctx context.Context, r db.Repository, req api.RepositoryRestorePost) (ops.Job, error) {
	if req.ID+req.From+req.Name+req.Pool != "" {
		return ops.Job{}, errs.Invalidf("field \"all\" is set, and so one of \"id\", \"from\", \"name\", \"pool\" is too many")
	}
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return ops.Job{}, err
	}
	host := orDefault(req.Host, s.Host)
	b := plan(r, all, host)
	if b.host.ID == "" && len(b.sources) == 0 {
		err := errs.NotFoundf("repository %q has no backups of host %q", r.Name, host)
		if others := hostsOf(all, ""); len(others) > 0 {
			err = errs.NotFoundf("%w: there are some of host %s", err, strings.Join(others, ", "))
		}
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Restoring a host", Cancelable: true, Resources: resources(r.Name),
		Run: func(ctx context.Context, op *ops.Op) error { return s.rebuild(ctx, b, op) },
	}, nil
}

// plan returns the last backup of all that a host had: volumes before the
// instances to which they are attached.
func plan(r db.Repository, all []snapshot, host string) *rebuilding {
	b := &rebuilding{repo: r}
	seen := map[source]bool{}
	for _, snap := range slices.Backward(all) {
		src, err := parseSource(snap.tag(tagSource))
		if err != nil || snap.Hostname != host || seen[src] {
			continue
		}
		seen[src] = true
		if src == (source{}) {
			b.host = snap
		} else {
			b.sources = append(b.sources, restoring{repo: r, snap: snap, source: src})
		}
	}
	slices.SortFunc(b.sources, func(x, y restoring) int {
		isInstance := func(src source) int {
			if src.pool == "" {
				return 1
			}
			return 0
		}
		return cmp.Or(isInstance(x.source)-isInstance(y.source), cmp.Compare(x.source.String(), y.source.String()))
	})
	return b
}

// rebuild makes all of a host again.
func (s *Service) rebuild(ctx context.Context, b *rebuilding, op *ops.Op) error {
	if b.host.ID != "" {
		op.SetMetadata("restore_progress", "the host's configuration")
		if err := s.rebuildHost(ctx, b); err != nil {
			return err
		}
		op.SetMetadata("restored", slices.Clone(b.restored))
	}
	for _, w := range b.sources {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		have, err := s.present(ctx)
		if err != nil {
			return err
		}
		if slices.Contains(have, w.source) {
			b.present = append(b.present, w.source.String())
			continue
		}
		w.project = w.source.project()
		if err := s.rebuildProject(ctx, b, api.Project{Name: w.project}); err != nil { // Its host can have no backup.
			return err
		}
		err = s.readDocument(ctx, &w)
		if err == nil {
			err = s.restore(ctx, w, op)
		}
		b.note(w.source.String(), err)
		op.SetMetadata("restored", slices.Clone(b.restored))
	}
	op.SetMetadata("present", slices.Clone(b.present))
	return errors.Join(b.failed...)
}

// note remembers what became of something.
func (b *rebuilding) note(what string, err error) {
	if err != nil {
		b.failed = append(b.failed, fmt.Errorf("restore %s: %w", what, err))
		return
	}
	b.restored = append(b.restored, what)
}

// rebuildHost makes what the host's document has and is not there. What fails
// does not keep the rest from being made.
func (s *Service) rebuildHost(ctx context.Context, b *rebuilding) error {
	text, err := s.small(ctx, b.repo, b.host.ID, documentName)
	if err != nil {
		return err
	}
	var doc api.HostDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		return errs.Invalidf("backup %s: %s: %w", b.host.ID[:8], documentName, err)
	}
	for _, step := range []func(context.Context, *rebuilding, api.HostDocument) error{
		s.rebuildConfig, s.rebuildPools, s.rebuildProjects, s.rebuildNetworks, s.rebuildProfiles, s.rebuildAliases,
	} {
		if err := step(ctx, b, doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) rebuildConfig(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	have, err := s.Config.Config(ctx)
	if err != nil {
		return err
	}
	lacks := map[string]string{}
	for k, v := range doc.Config {
		if have[k] == "" {
			lacks[k] = v
		}
	}
	if len(lacks) > 0 {
		b.note("the server's configuration", s.Config.SetConfig(ctx, lacks))
	}
	return nil
}

func (s *Service) rebuildPools(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	all, err := s.Pools.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range doc.Pools {
		if slices.ContainsFunc(all, func(have api.StoragePool) bool { return have.Name == p.Name }) {
			continue
		}
		config := maps.Clone(p.Config)
		maps.DeleteFunc(config, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.") })
		if within(config["source"], s.Dir) || within(config["source"], doc.Dir) {
			delete(config, "source") // A daemon made it, and makes another.
		}
		b.note("storage pool "+p.Name, s.Pools.Create(ctx, api.StoragePoolsPost{
			Name: p.Name, Driver: p.Driver, StoragePoolPut: api.StoragePoolPut{Config: config, Description: p.Description},
		}))
	}
	return nil
}

// rebuildProjects makes projects, before what is in them.
func (s *Service) rebuildProjects(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	for _, p := range doc.Projects {
		if err := s.rebuildProject(ctx, b, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) rebuildProject(ctx context.Context, b *rebuilding, p api.Project) error {
	made, err := s.Projects.Reinstate(ctx, p)
	if !made {
		return err
	}
	b.note("project "+p.Name, err)
	return nil
}

// rebuildNetworks makes networks, with what belongs to them.
func (s *Service) rebuildNetworks(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	for i, n := range doc.Networks {
		config := maps.Clone(n.Config)
		maps.DeleteFunc(config, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.") })
		doc.Networks[i].Config = config
	}
	s.Nets.Reinstate(ctx, netdocs.Reinstatement{Document: doc.NetworksDocument, Complete: true, Note: b.note})
	return ctx.Err()
}

// rebuildProfiles makes profiles. One that every server has is filled if
// nobody has touched it yet.
func (s *Service) rebuildProfiles(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	all, err := s.Instances.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, p := range doc.Profiles {
		put := p.ProfilePut
		i := slices.IndexFunc(all, func(have api.Profile) bool { return have.Name == p.Name })
		switch {
		case i < 0:
			b.note("profile "+p.Name, s.Instances.CreateProfile(ctx, api.ProfilesPost{Name: p.Name, ProfilePut: put}))
		case len(all[i].Config)+len(all[i].Devices) == 0 && len(put.Config)+len(put.Devices) > 0:
			b.note("profile "+p.Name, s.Instances.UpdateProfile(ctx, p.Name, put))
		}
	}
	return nil
}

// rebuildAliases makes the aliases of images that are there. Images are not
// backed up: they can be had again.
func (s *Service) rebuildAliases(ctx context.Context, b *rebuilding, doc api.HostDocument) error {
	all, err := s.Images.Aliases(ctx)
	if err != nil {
		return err
	}
	for _, a := range doc.Aliases {
		if slices.ContainsFunc(all, func(have api.ImageAliasesEntry) bool { return project.Key(have.Project, have.Name) == a.Name }) {
			continue
		}
		if err := s.Images.CreateAlias(ctx, a); !errs.Is(err, errs.NotFound) {
			b.note("image alias "+a.Name, err)
		}
	}
	return nil
}
