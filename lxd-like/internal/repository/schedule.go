package repository

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// pruneSchedule is when repositories are pruned that got backups by the clock.
const pruneSchedule = "@daily"

// Tick makes the backups that are due, prunes the repositories that they are
// in, and returns when that is done.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	tasks, err := s.tasks(ctx)
	if err != nil {
		return err
	}
	return s.clock().Tick(ctx, now, tasks)
}

func (s *Service) clock() *clock.Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticks == nil {
		s.ticks = &clock.Clock{DB: s.DB, Prefix: "backups ", Logger: s.Log, Warnings: s.Warnings}
	}
	return s.ticks
}

// tasks returns all that is done by the clock.
func (s *Service) tasks(ctx context.Context) ([]clock.Task, error) {
	configs, err := s.configs(ctx)
	if err != nil {
		return nil, err
	}
	var out []clock.Task
	var used []string
	for src, config := range configs {
		b := profiles.BackupsOf(config)
		if b.Repository == "" || b.Schedule == "" {
			continue
		}
		out = append(out, clock.Task{
			Key: src.String() + " " + b.Repository, Schedule: b.Schedule, About: repositoryURL(b.Repository),
			Do: func(ctx context.Context, done clock.Done) error { return s.due(ctx, b.Repository, src, done) },
		})
		if !slices.Contains(used, b.Repository) {
			used = append(used, b.Repository)
		}
	}
	for _, name := range used {
		out = append(out, clock.Task{
			Key: "prune " + name, Schedule: pruneSchedule, About: repositoryURL(name),
			Do: func(ctx context.Context, done clock.Done) error { return s.duePrune(ctx, name, done) },
		})
	}
	return out, nil
}

// due makes a backup, forgets those that are too many by now, and backs up
// what the host has if that changed.
func (s *Service) due(ctx context.Context, name string, src source, done clock.Done) error {
	job, err := s.CreateBackups(ctx, name, api.RepositoryBackupsPost{Sources: []string{src.String()}})
	if err != nil {
		return err
	}
	job.Description = fmt.Sprintf("Backing up %s by its schedule", src)
	work := job.Run
	job.Run = func(ctx context.Context, op *ops.Op) error {
		if err := work(ctx, op); err != nil {
			return err
		}
		// A task is done with the backup: what follows is tried again at the next.
		if err := s.DB.Do(ctx, done); err != nil {
			return err
		}
		r, err := s.record(ctx, name)
		if err != nil {
			return err
		}
		if err := s.hostIfChanged(ctx, r, op); err != nil {
			return err
		}
		return s.alone(ctx, r, func() error { return s.retain(ctx, r, []source{src, {}}) })
	}
	return s.operate(ctx, job)
}

// operate runs a job as an operation, which users see, and waits for it.
func (s *Service) operate(ctx context.Context, job ops.Job) error {
	op, err := s.Ops.Start(ctx, job)
	if err != nil {
		return err
	}
	desc := op.Wait(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if desc.Err != "" {
		err = errs.FromStatus(int(desc.ErrCode), desc.Err)
		s.Events.Lifecycle("backup-failed", "/1.0/operations/"+desc.ID, map[string]any{"description": desc.Description, "err": desc.Err})
	}
	return err
}

// hostIfChanged backs up what the host has, if the last backup of it has
// something else.
func (s *Service) hostIfChanged(ctx context.Context, r db.Repository, op *ops.Op) error {
	doc, err := s.hostDocument(ctx)
	if err != nil {
		return err
	}
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return err
	}
	if last, ok := latest(all, source{}, s.Host); ok && last.tag(tagSum) == sum(doc) {
		return nil
	}
	_, err = s.backUp(ctx, r, source{}, backing{op: op})
	return err
}

func (s *Service) duePrune(ctx context.Context, name string, done clock.Done) error {
	job, err := s.Prune(ctx, name)
	if err != nil {
		return err
	}
	job.Description = fmt.Sprintf("Pruning repository %s by the clock", name)
	if err := s.operate(ctx, job); err != nil {
		return err
	}
	return s.DB.Do(ctx, done)
}
