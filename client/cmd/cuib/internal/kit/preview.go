package kit

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// PreviewHelp explains what commands with --dry-run print.
const PreviewHelp = `With --dry-run nothing changes, and what would is printed: which key of which
instance, from what to what, and whether at once (now) or from its next start on
(start). The exit status is 2 if an instance would refuse it.`

// previewed is a change of one key of one instance.
type previewed struct {
	api.InstanceChange
	api.ConfigChange
}

var previewColumns = []output.Column[previewed]{
	{Key: 'n', Name: "INSTANCE", Value: func(p previewed) string { return p.Instance }},
	{Key: 's', Name: "STATUS", Value: func(p previewed) string { return p.Status }},
	{Key: 'k', Name: "KEY", Value: func(p previewed) string { return p.Key }},
	{Key: 'b', Name: "BEFORE", Value: func(p previewed) string { return oneLine(p.Before) }},
	{Key: 'a', Name: "AFTER", Value: func(p previewed) string { return oneLine(p.After) }},
	{Key: 'w', Name: "WHEN", Value: func(p previewed) string { return p.When }},
}

// DryRunFlag adds the flag of commands that can show what they would change.
func DryRunFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("dry-run", false, "change nothing: show what would change of which instances")
}

// DryRun is DryRunFlag for a command whose help then says what is printed.
func DryRun(cmd *cobra.Command) *bool {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n" + PreviewHelp
	return DryRunFlag(cmd)
}

// ShowPreview writes what would change. It fails if an instance refuses it.
func ShowPreview(e *Env, all []api.InstanceChange) error {
	var rows []previewed
	var refused []api.InstanceChange
	for _, c := range all {
		if c.Error != "" {
			refused = append(refused, c)
		}
		for _, k := range c.Changes {
			rows = append(rows, previewed{c, k})
		}
	}
	if err := Show(e, ListView{Columns: "nskbaw", Format: "table"}, previewColumns, rows); err != nil {
		return err
	}
	for _, c := range refused {
		fmt.Fprintf(e.Err, "instance %q would refuse it: %s\n", c.Instance, c.Error)
	}
	if len(refused) > 0 {
		return errs.Invalidf("%d of %d instances would refuse it, so that none would change", len(refused), len(all))
	}
	return nil
}

// updater writes an object back.
type updater[P any] func(ctx context.Context, name string, put P, etag string) error

// updater returns what writes an object back, or shows what that would change
// if the command is run so.
func (k Kind[T, P]) updater(e *Env, cmd *cobra.Command) updater[P] {
	if k.Preview == nil {
		return k.Update
	}
	dry := DryRun(cmd)
	return func(ctx context.Context, name string, put P, etag string) error {
		if !*dry {
			return k.Update(ctx, name, put, etag)
		}
		return k.previewed(e)(ctx, name, put, etag)
	}
}

// previewed returns what shows what writing an object back would change.
func (k Kind[T, P]) previewed(e *Env) updater[P] {
	return func(ctx context.Context, name string, put P, etag string) error {
		all, err := k.Preview(ctx, name, put, etag)
		if err != nil {
			return err
		}
		return ShowPreview(e, all)
	}
}
