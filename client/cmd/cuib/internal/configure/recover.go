package configure

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var recoverColumns = []output.Column[client.UnknownVolume]{
	{Key: 'p', Name: "POOL", Value: func(v client.UnknownVolume) string { return v.Pool }},
	{Key: 't', Name: "TYPE", Value: func(v client.UnknownVolume) string { return v.Type }},
	{Key: 'n', Name: "NAME", Value: func(v client.UnknownVolume) string { return v.Name }},
	{Key: 's', Name: "SNAPSHOTS", Value: func(v client.UnknownVolume) string { return fmt.Sprint(v.SnapshotCount) }},
	{Key: 'e', Name: "PROJECT", Value: func(v client.UnknownVolume) string { return v.Project }},
}

func newAdminRecover(e *env) *cobra.Command {
	var view kit.ListView
	var dry bool
	cmd := &cobra.Command{
		Use: "recover [POOL=DRIVER[:SOURCE]...]", Short: "Register what pools have and the database does not know",
		Long: `Look through all storage pools, and register the instances and custom volumes
that they have and the database does not know, with their snapshots. A pool that
the database does not know either is told as it was made: its name, its driver
and its source, if it had one.

Nothing in the pools is changed, and nothing is asked: --dry-run only lists what
there is. Columns:

` + output.Describe(recoverColumns),
		Example: "  cuib admin recover --dry-run\n  cuib admin recover\n  cuib admin recover default=overlay fast=btrfs:/dev/sdb tank=zfs:tank/cuib",
		Args:    kit.Needs(0, -1), ValidArgsFunction: e.Complete(kit.None),
		RunE: func(cmd *cobra.Command, args []string) error { return e.recover(cmd.Context(), view, dry, args) },
	}
	view.Flags(cmd, "ptns")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only list what would be registered")
	return cmd
}

func (e *env) recover(ctx context.Context, view kit.ListView, dry bool, args []string) error { //nolint:revive // dry is the user's flag.
	req, err := e.recoverRequest(ctx, args)
	if err != nil {
		return err
	}
	found, err := e.Client().FindRecoverable(ctx, req)
	if err != nil {
		return err
	}
	if err := kit.Show(e.Env, view, recoverColumns, found.UnknownVolumes); err != nil {
		return err
	}
	if len(found.DependencyErrors) > 0 {
		return errs.Conflictf("nothing registered: %s", strings.Join(found.DependencyErrors, "; "))
	}
	if dry {
		return nil
	}
	if err := e.Client().Recover(ctx, req); err != nil {
		return err
	}
	e.Warn("%d instances and volumes registered", len(found.UnknownVolumes))
	return nil
}

// recoverRequest names the pools that the daemon knows, and those of the
// arguments.
func (e *env) recoverRequest(ctx context.Context, args []string) (client.RecoverRequest, error) {
	var req client.RecoverRequest
	known, err := e.Client().StoragePools(ctx)
	if err != nil {
		return req, err
	}
	for _, p := range known {
		req.Pools = append(req.Pools, api.StoragePoolsPost{Name: p.Name, Driver: p.Driver, StoragePoolPut: p.StoragePoolPut})
	}
	for _, a := range args {
		name, rest, ok := strings.Cut(a, "=")
		driver, source, _ := strings.Cut(rest, ":")
		if !ok || name == "" || driver == "" {
			return req, errs.Invalidf("pool %q is not of the form NAME=DRIVER or NAME=DRIVER:SOURCE, such as fast=btrfs:/dev/sdb", a)
		}
		if i := slices.IndexFunc(req.Pools, func(p api.StoragePoolsPost) bool { return p.Name == name }); i >= 0 {
			if err := samePool(req.Pools[i], driver, source); err != nil {
				return req, err
			}
			continue // The database knows it; it is looked through anyway.
		}
		pool := api.StoragePoolsPost{Name: name, Driver: driver}
		pool.Config = api.ConfigMap{}
		if source != "" {
			pool.Config["source"] = source
		}
		req.Pools = append(req.Pools, pool)
	}
	return req, nil
}

// samePool reports an argument that says something else than what the database
// has.
func samePool(known api.StoragePoolsPost, driver, source string) error {
	if known.Driver != driver || source != "" && source != known.Config["source"] {
		return errs.Invalidf("pool %q is known, with driver %s and source %q: leave it out, or give it another name", known.Name, known.Driver, known.Config["source"])
	}
	return nil
}
