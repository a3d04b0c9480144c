package instances

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Heads returns the instances of a project by name, or of all if in is empty,
// as little of them as a list needs. It asks the kernel nothing of those that
// do not run.
func (s *Service) Heads(ctx context.Context, in string) ([]api.InstanceBrief, error) {
	out, _, err := s.heads(ctx, in)
	return out, err
}

// Briefs is [Service.Heads] with the instances' addresses and snapshots.
func (s *Service) Briefs(ctx context.Context, in string) ([]api.InstanceBrief, error) {
	out, snapshots, err := s.heads(ctx, in)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.SetLimit(statesAtOnce)
	for i := range out {
		one := &out[i]
		for _, name := range snapshots[one.Name] {
			one.Snapshots = append(one.Snapshots, api.InstanceBriefSnapshot{Name: name})
		}
		if s.index.get(one.Name) == nil {
			one.State = &api.InstanceBriefState{Network: map[string]api.InstanceBriefNetwork{}}
			continue
		}
		g.Go(func() error {
			var err error
			one.State, err = s.briefState(one.Name)
			return err
		})
	}
	return out, g.Wait()
}

func (s *Service) heads(ctx context.Context, project string) (out []api.InstanceBrief, snapshots map[string][]string, err error) {
	var rows []db.Instance
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if rows, err = db.InstanceHeads(ctx, tx, project); err != nil {
			return err
		}
		snapshots, err = db.SnapshotNames(ctx, tx, project)
		return err
	})
	out = make([]api.InstanceBrief, 0, len(rows))
	for _, row := range rows {
		if row.Status != db.Ready {
			continue
		}
		code := s.code(row.Name)
		out = append(out, api.InstanceBrief{
			Name: row.Name, Status: code.String(), StatusCode: code, Architecture: row.Architecture, Type: "container",
			Ephemeral: row.Ephemeral, CreatedAt: row.Created, LastUsedAt: row.LastUsed, Description: row.Description,
			Project: "default", Location: "none", Profiles: orEmpty(row.Profiles), Snapshots: []api.InstanceBriefSnapshot{},
		})
	}
	return out, snapshots, err
}

// Summary returns an instance with its state, and as much of its snapshots as
// a table of them shows.
func (s *Service) Summary(ctx context.Context, name string) (api.InstanceSummary, error) {
	var in *instance
	var snaps []db.Snapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if in, err = loadTx(ctx, tx, name); err != nil {
			return err
		}
		snaps, err = db.SnapshotHeads(ctx, tx, name)
		return err
	})
	if err != nil {
		return api.InstanceSummary{}, err
	}
	out := api.InstanceSummary{Instance: s.describe(in), Snapshots: summaries(snaps)}
	st, err := s.state(in)
	st.Disk = s.disks(ctx, in)
	out.State = &st
	return out, err
}

// SnapshotSummaries returns as much of the snapshots of an instance as a table
// of them shows.
func (s *Service) SnapshotSummaries(ctx context.Context, name string) ([]api.SnapshotSummary, error) {
	var snaps []db.Snapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if _, err = loadTx(ctx, tx, name); err == nil {
			snaps, err = db.SnapshotHeads(ctx, tx, name)
		}
		return err
	})
	return summaries(snaps), err
}

// summaries are those of the snapshots that are whole.
func summaries(snaps []db.Snapshot) []api.SnapshotSummary {
	snaps = whole(snaps)
	out := make([]api.SnapshotSummary, 0, len(snaps))
	for _, snap := range snaps {
		out = append(out, api.SnapshotSummary{
			Name: snap.Name, Description: snap.Description, Stateful: snap.Stateful, CreatedAt: snap.Created, ExpiresAt: snap.Expires,
		})
	}
	return out
}

// briefState has the addresses of an instance that runs. One that ends or boots
// again while it is asked has none.
func (s *Service) briefState(name string) (*api.InstanceBriefState, error) {
	st := &api.InstanceBriefState{Network: map[string]api.InstanceBriefNetwork{}}
	links, err := s.Runtime.Interfaces(name)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unavailable) {
		return st, nil
	}
	for name, link := range links {
		st.Network[name] = api.InstanceBriefNetwork{Addresses: apiInterface(link).Addresses}
	}
	return st, err
}
