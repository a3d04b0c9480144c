package repository

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// alone calls fn while nobody else of this daemon is in the repository.
func (s *Service) alone(ctx context.Context, r db.Repository, fn func() error) error {
	unlock, err := s.writers.LockContext(ctx, r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	leave, err := s.gates.own(ctx, r.Name)
	if err != nil {
		return err
	}
	defer leave()
	return fn()
}

// DeleteBackup removes a backup. Its room is free after the next
// [Service.Prune].
func (s *Service) DeleteBackup(ctx context.Context, name, id string) (ops.Job, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	snap, err := s.find(ctx, r, id)
	if err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Deleting a backup", Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error {
			op.SetMetadata("backup_progress", "waiting for the repository")
			return s.alone(ctx, r, func() error { return s.forget(ctx, r, []string{snap.ID}) })
		},
	}, nil
}

func (s *Service) forget(ctx context.Context, r db.Repository, args []string) error {
	return s.restic(ctx, r, call{args: append([]string{"forget", "--quiet"}, args...)})
}

// Verify checks that a repository is whole.
func (s *Service) Verify(ctx context.Context, name string, req api.RepositoryVerifyPost) (ops.Job, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	args := []string{"check", "--no-cache"}
	switch subset := req.ReadData; {
	case subset == "":
	case subset == "all" || subset == "100%":
		args = append(args, "--read-data")
	case isSubset(subset):
		args = append(args, "--read-data-subset="+subset)
	default:
		return ops.Job{}, errs.Invalidf("field \"read_data\": got %q, want all, a percentage such as \"5%%\", a part such as \"1/7\" or a size such as \"10G\"", subset)
	}
	return ops.Job{
		Description: "Verifying a repository", Cancelable: true, Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error { return s.verify(ctx, r, args, op) },
	}, nil
}

// isSubset reports whether text is a percentage of at most 100, a part such as
// 1/7, or a size such as 10G, each more than nothing.
func isSubset(text string) bool {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		return err == nil && n > 0 && n <= 100
	}
	if part, of, ok := strings.Cut(text, "/"); ok {
		n, nerr := strconv.ParseUint(part, 10, 32)
		all, aerr := strconv.ParseUint(of, 10, 32)
		return nerr == nil && aerr == nil && n > 0 && n <= all
	}
	n, err := strconv.ParseUint(strings.TrimRight(text, "kKmMgGtT"), 10, 63)
	return err == nil && n > 0 && len(text)-len(strings.TrimRight(text, "kKmMgGtT")) <= 1
}

func (s *Service) verify(ctx context.Context, r db.Repository, args []string, op *ops.Op) error {
	op.SetMetadata("verify_progress", "reading")
	out := &jsonLines{fn: func(line []byte) {
		if text := strings.TrimSpace(string(line)); text != "" {
			op.SetMetadata("verify_progress", text)
		}
	}}
	return s.alone(ctx, r, func() error { return s.restic(ctx, r, call{args: args, stdout: out}) })
}

// Prune forgets the backups that are not to be kept, and removes the data
// that nothing needs any more.
func (s *Service) Prune(ctx context.Context, name string) (ops.Job, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Pruning a repository", Cancelable: true, Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error {
			op.SetMetadata("prune_progress", "forgetting")
			return s.alone(ctx, r, func() error {
				if err := s.retain(ctx, r, nil); err != nil {
					return err
				}
				op.SetMetadata("prune_progress", "removing what nothing needs")
				return s.prune(ctx, r)
			})
		},
	}, nil
}

func (s *Service) prune(ctx context.Context, r db.Repository) error {
	if err := s.restic(ctx, r, call{args: []string{"prune", "--quiet"}}); err != nil {
		return err
	}
	return s.tidy(ctx, r)
}

// tidy drops what is remembered of backups that are gone.
func (s *Service) tidy(ctx context.Context, r db.Repository) error {
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		known, err := db.RepositoryBackups(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		for _, b := range known {
			if slices.ContainsFunc(all, func(snap snapshot) bool { return strings.HasPrefix(snap.ID, b.Backup) }) {
				continue
			}
			if err := db.DeleteRepositoryBackup(ctx, tx, r.ID, b.Backup); err != nil {
				return err
			}
		}
		return nil
	})
}

// retain forgets the backups of this host that are not to be kept: of the
// given sources, or of all that the repository has. The last one of a source
// always stays.
func (s *Service) retain(ctx context.Context, r db.Repository, of []source) error {
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return err
	}
	policies, err := s.policies(ctx)
	if err != nil {
		return err
	}
	var sources []string
	for _, snap := range all {
		text := snap.tag(tagSource)
		src, err := parseSource(text)
		if err != nil || snap.Hostname != s.Host || slices.Contains(sources, text) || of != nil && !slices.Contains(of, src) {
			continue
		}
		sources = append(sources, text)
	}
	for _, src := range sources {
		keep := policies[src]
		if len(keep) == 0 {
			keep = defaultKeep(r)
		}
		if len(keep) == 0 {
			continue
		}
		args := []string{"--host", s.Host, "--tag", tagText.Replace(tagSource + src), "--group-by", ""}
		for _, period := range Periods {
			if n := keep[period]; n != "" {
				args = append(args, "--keep-"+period, n)
			}
		}
		if err := s.forget(ctx, r, args); err != nil {
			return fmt.Errorf("forget backups of %s: %w", src, err)
		}
	}
	return nil
}

// defaultKeep is what a repository keeps of sources that say nothing.
func defaultKeep(r db.Repository) map[string]string {
	keep := map[string]string{}
	for _, period := range Periods {
		if n := r.Config[prefixKeep+period]; n != "" {
			keep[period] = n
		}
	}
	return keep
}

// policies returns what sources want to have kept of them.
func (s *Service) policies(ctx context.Context) (map[string]map[string]string, error) {
	configs, err := s.configs(ctx)
	out := map[string]map[string]string{}
	for src, config := range configs {
		out[src.String()] = profiles.BackupsOf(config).Keep
	}
	return out, err
}

// configs returns the configuration of all instances and volumes.
func (s *Service) configs(ctx context.Context) (map[source]map[string]string, error) {
	out := map[source]map[string]string{}
	all, err := s.Instances.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, in := range all {
		out[source{name: in.Name}] = in.ExpandedConfig
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		vols, err := db.Volumes(ctx, tx)
		for _, v := range vols {
			if v.Status == db.Ready {
				out[source{v.Pool, v.Name}] = v.Config
			}
		}
		return err
	})
	return out, err
}
