package configure

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/client/doctor"
	"github.com/cuib/cuib/shared/errs"
)

func newAdmin(e *env) *cobra.Command {
	return kit.Group("admin", "Set up and look after the daemon", "  cuib admin init --auto\n  cuib admin doctor",
		newAdminDoctor(e), newAdminInit(e), newAdminRecover(e), newAdminShutdown(e), newAdminWaitready(e))
}

func newAdminWaitready(e *env) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use: "waitready", Short: "Wait until the daemon serves",
		Example: "  cuib admin waitready --timeout 30",
		Args:    kit.Needs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
				defer cancel()
			}
			return e.waitReady(ctx)
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "seconds to wait at most; 0 for as long as it takes")
	return cmd
}

// readyEvery is how often the daemon is asked whether it is there.
const readyEvery = 10 * time.Millisecond

func (e *env) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	for {
		err := e.Client().Ready(ctx)
		if err == nil || errs.Is(err, errs.Denied) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errs.Newf(errs.Unavailable, "the daemon is not ready: %w", err)
		}
	}
}

func newAdminShutdown(e *env) *cobra.Command {
	var req client.ShutdownRequest
	var timeout int
	cmd := &cobra.Command{
		Use: "shutdown", Short: "Stop all instances, and the daemon",
		Long: "Stop all instances as their boot.host_shutdown_action, boot.host_shutdown_timeout\n" +
			"and boot.stop.priority say, and then the daemon. Its next start starts them again.",
		Example: "  cuib admin shutdown --timeout 60\n  cuib admin shutdown --force",
		Args:    kit.Needs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
				defer cancel()
			}
			err := e.Client().Shutdown(ctx, req)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return errs.Newf(errs.Unavailable, "instances are still stopping after %d seconds; the daemon goes on: --force ends them at once", timeout)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&req.Force, "force", "f", false, "end instances at once, and do not wait for operations")
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "seconds to wait at most; 0 for as long as it takes")
	return cmd
}

var checkColumns = []output.Column[doctor.Result]{
	{Key: 'n', Name: "CHECK", Value: func(r doctor.Result) string { return r.Name }},
	{Key: 's', Name: "STATUS", Value: func(r doctor.Result) string { return string(r.Status) }},
	{Key: 'd', Name: "FOUND", Value: func(r doctor.Result) string { return r.Found }},
	{Key: 'f', Name: "REMEDY", Value: func(r doctor.Result) string { return r.Remedy }},
}

func newAdminDoctor(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this host lacks, and how to get it",
		Long:    "Look for what the daemon and its instances need on this host: programs, features\nof the kernel, ranges of ids, and the daemon itself. The exit status is 1 if\nsomething is missing that is needed. Columns:\n\n" + output.Describe(checkColumns),
		Example: "  cuib admin doctor\n  cuib admin doctor --format json",
		Args:    kit.Needs(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.examine(cmd.Context(), v) },
	}
	v.Flags(cmd, "nsdf")
	return cmd
}

func (e *env) examine(ctx context.Context, v kit.ListView) error {
	host := doctor.ThisHost(func(ctx context.Context) error {
		_, _, err := e.Client().Server(ctx)
		return err
	})
	results := doctor.Examine(ctx, host)
	if err := kit.Show(e.Env, v, checkColumns, results); err != nil {
		return err
	}
	if doctor.Worst(results) == doctor.Missing {
		return kit.StatusError(1)
	}
	return nil
}
