package projects

import (
	"context"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// State returns how much a project uses of what it may use.
func (s *Service) State(ctx context.Context, name string) (api.ProjectState, error) {
	out := api.ProjectState{Resources: map[string]api.ProjectStateResource{}}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetProject(ctx, tx, name)
		if err != nil {
			return err
		}
		use, err := total(ctx, tx, name)
		if err != nil {
			return err
		}
		rules := projectkeys.NewRules(p.Config)
		for key, resource := range resources(p.Config) {
			limit, limited := rules.Limit(key)
			if !limited {
				limit = -1
			}
			out.Resources[resource] = api.ProjectStateResource{Limit: limit, Usage: use[key]}
		}
		return nil
	})
	return out, err
}

// total is what a project has of all that there are limits of.
func total(ctx context.Context, tx *db.Tx, name string) (projectkeys.Use, error) {
	use, err := sum(ctx, tx, name, nil)
	if err != nil {
		return nil, err
	}
	instances, err := db.CountInstances(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	use.Add(counted(instances))
	use[projectkeys.LimitNetworks], err = db.CountNetworks(ctx, tx, name)
	return use, err
}

// resources are the names that limits have in a project's state. Pools are
// among them that have a limit.
func resources(config map[string]string) map[string]string {
	out := map[string]string{}
	for _, key := range []string{
		projectkeys.LimitInstances, projectkeys.LimitContainers, projectkeys.LimitMachines, projectkeys.LimitNetworks,
		projectkeys.LimitCPU, projectkeys.LimitMemory, projectkeys.LimitProcesses, projectkeys.LimitDisk,
	} {
		out[key] = strings.TrimPrefix(key, "limits.")
	}
	for key := range config {
		if pool, ok := strings.CutPrefix(key, projectkeys.LimitPool("")); ok {
			out[key] = "disk." + pool
		}
	}
	return out
}

// Rules are what a project limits and restricts; nil if nothing.
func (s *Service) Rules(name string) *projectkeys.Rules { return s.get(name).rules }

// RequestConfig is [Service.Config] of the project of a request.
func (s *Service) RequestConfig(ctx context.Context, key string) string {
	return s.Config(project.From(ctx), key)
}

// Config is what a key of a project says, in place of the server's; empty if
// nothing.
func (s *Service) Config(name, key string) string { return s.get(name).config[key] }
