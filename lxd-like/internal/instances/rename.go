package instances

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/uuid"
)

// Rename checks a request for another name of an instance, for its move to
// another pool or project, or for all of it. It must not run.
func (s *Service) Rename(ctx context.Context, name string, req api.InstancePost) (ops.Job, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if req.Name == "" {
		req.Name = project.Instance(cmp.Or(req.Project, project.OfInstance(name)), project.InstanceName(name))
	}
	changes := req.Pool != "" || req.Config != nil || req.Devices != nil || req.Profiles != nil || carries(name, req.Name)
	switch {
	case changes:
		return s.moveJob(ctx, in, req)
	case req.Migration && req.Name == name:
		return ops.Job{}, errs.Newf(errs.Unsupported, "moving instances to other servers is not supported")
	}
	if err := s.renamable(ctx, name, req.Name); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Renaming instance", Objects: objects(name, req.Name), Resources: resources(name),
		Run: func(ctx context.Context, _ *ops.Op) error {
			unlock := s.locks.LockAll(name, req.Name)
			defer unlock()
			in, err := s.load(ctx, name)
			if err != nil {
				return err
			}
			if err := s.renamable(ctx, name, req.Name); err != nil {
				return err
			}
			if err := s.rename(ctx, in, req.Name); err != nil {
				return fmt.Errorf("rename instance %q to %q: %w", name, req.Name, err)
			}
			s.event("instance-renamed", req.Name, map[string]any{"old_name": name})
			return nil
		},
	}, nil
}

// renamable reports why an instance cannot have another name.
func (s *Service) renamable(ctx context.Context, name, to string) error {
	if err := profiles.CheckInstanceName(to); err != nil {
		return err
	}
	if err := s.free(ctx, to); err != nil {
		return err
	}
	return s.checkStopped(name, "rename")
}

func (s *Service) checkStopped(name, action string) error {
	if s.index.get(name) != nil {
		return errs.Conflictf("cannot %s instance %q: it is running", action, name)
	}
	return nil
}

// rename writes down first what name the volume gets: Recover takes back a
// renaming that a crash cut short. What also writes becomes true with the name.
func (s *Service) rename(ctx context.Context, in *instance, to string, also ...func(context.Context, *db.Tx) error) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.endAll(ctx, in.Name); err != nil {
		return err
	}
	if err := s.patch(ctx, in, map[string]string{keyRenaming: to}); err != nil {
		return err
	}
	u.Push("unmark the instance", func(ctx context.Context) error {
		return s.patch(ctx, in, map[string]string{keyRenaming: ""})
	})
	if err := s.unsetHosts(ctx, in, &u); err != nil {
		return err
	}
	if err := d.Unmount(ctx, in.volume()); err != nil {
		return err
	}
	if err := d.Rename(ctx, in.volume(), to); err != nil {
		return err
	}
	u.Push("rename the root volume back", func(ctx context.Context) error {
		v := in.volume()
		v.Name = to
		return d.Rename(ctx, v, in.Name)
	})
	if err := s.moveLogs(in.Name, to, &u); err != nil {
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		keys := renamedKeys(in)
		keys[keyRenaming] = ""
		if err := db.PatchInstanceConfig(ctx, tx, in.Name, keys); err != nil {
			return err
		}
		if err := s.renamed(ctx, tx, in.Name, to); err != nil {
			return err
		}
		for _, fn := range also {
			if err := fn(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.ranges.rename(in.Name, to)
	return nil
}

// A Rename changes what another service keeps that names an instance which is
// renamed, in the transaction that does it.
type Rename func(ctx context.Context, tx *db.Tx, from, to string) error

// renamed renames the record, and the instance wherever else its name is kept.
func (s *Service) renamed(ctx context.Context, tx *db.Tx, from, to string) error {
	if err := db.RenameInstance(ctx, tx, from, to); err != nil {
		return err
	}
	for _, fn := range s.Renames {
		if err := fn(ctx, tx, from, to); err != nil {
			return err
		}
	}
	return nil
}

// renamedKeys are the keys that an instance gets with another name.
func renamedKeys(in *instance) map[string]string {
	if pending := in.Config[keyApplyTemplate]; pending == "create" || pending == "copy" {
		return map[string]string{} // It was never started: that is still to come, with the new name.
	}
	// To cloud-init it is another instance, for it has another name.
	return map[string]string{keyApplyTemplate: "rename", keyCloudInitID: uuid.New()}
}

// moveLogs moves what is kept of an instance's past.
func (s *Service) moveLogs(from, to string, u *undo.Stack) error {
	for _, dir := range []func(string) string{s.logDir, s.runDir} {
		if err := os.RemoveAll(dir(to)); err != nil {
			return err
		}
		err := os.Rename(dir(from), dir(to))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		u.Push("move the logs back", func(context.Context) error { return os.Rename(dir(to), dir(from)) })
	}
	return nil
}
