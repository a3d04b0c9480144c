package configure

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var warningColumns = []output.Column[api.Warning]{
	{Key: 'u', Name: "UUID", Value: func(w api.Warning) string { return w.UUID }},
	{Key: 't', Name: "TYPE", Value: func(w api.Warning) string { return w.Type }},
	{Key: 'S', Name: "SEVERITY", Value: func(w api.Warning) string { return w.Severity }},
	{Key: 's', Name: "STATUS", Value: func(w api.Warning) string { return w.Status }},
	{Key: 'e', Name: "ABOUT", Value: func(w api.Warning) string { return w.EntityURL }},
	{Key: 'm', Name: "MESSAGE", Value: func(w api.Warning) string { return w.LastMessage }},
	{Key: 'c', Name: "COUNT", Value: func(w api.Warning) string { return strconv.Itoa(w.Count) }},
	{Key: 'f', Name: "FIRST SEEN", Value: func(w api.Warning) string { return kit.Date(w.FirstSeenAt) }},
	{Key: 'l', Name: "LAST SEEN", Value: func(w api.Warning) string { return kit.Date(w.LastSeenAt) }},
	{Key: 'p', Name: "PROJECT", Value: func(w api.Warning) string { return w.Project }},
	{Key: 'L', Name: "LOCATION", Value: func(w api.Warning) string { return w.Location }},
}

const exampleWarning = "0f5c2b1e-6a0c-4f0e-9d1c-1c2f3a4b5d6e"

func newWarning(e *env) *cobra.Command {
	return kit.Group("warning", "See what is wrong with the host and what is on it", "  cuib warning list",
		newWarningAcknowledge(e), newWarningDelete(e), newWarningList(e), newWarningShow(e))
}

func newWarningList(e *env) *cobra.Command {
	var all bool
	cmd := kit.ListCommand(e.Env, kit.Lister[api.Warning]{
		What: "warnings", Columns: warningColumns, Usual: "uSteml", Example: "  cuib warning list --all",
		Read: func(c *client.Client, ctx context.Context) ([]api.Warning, error) {
			known, err := c.Warnings(ctx)
			var out []api.Warning
			for _, w := range known {
				if all || w.Status == api.WarningNew {
					out = append(out, w)
				}
			}
			return out, err
		},
	})
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also what was acknowledged, and what was resolved in the last day")
	return cmd
}

func newWarningShow(e *env) *cobra.Command {
	return kit.ShowCommand(e.Env, kit.Use("WARNING", "a warning", "  cuib warning show "+exampleWarning), kit.Warnings, e.Client().Warning)
}

func newWarningAcknowledge(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "acknowledge WARNING...", Aliases: []string{"ack"}, Short: "Say that warnings have been seen",
		Long:    "Say that warnings have been seen. They are not listed any more, until what\nthey are about was well again and is not.",
		Example: "  cuib warning acknowledge " + exampleWarning,
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.Warnings),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				err := e.Client().UpdateWarning(cmd.Context(), id, api.WarningPut{Status: api.WarningAcknowledged}, "")
				if err != nil {
					return err
				}
				e.Say("Warning %s acknowledged", id)
			}
			return nil
		}),
	}
}

func newWarningDelete(e *env) *cobra.Command {
	var all bool
	cmd := e.DeleteCommand("Warning", kit.Use("WARNING", "warnings", "  cuib warning delete "+exampleWarning+"\n  cuib warning delete --all"), kit.Warnings,
		e.Client().DeleteWarning)
	named := cmd.RunE
	cmd.Args = kit.Needs(0, -1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return errs.Invalidf("want the UUIDs of warnings, or --all")
		}
		if !all {
			return named(cmd, args)
		}
		known, err := e.Client().Warnings(cmd.Context())
		for _, w := range known {
			args = append(args, w.UUID)
		}
		if err != nil || len(args) == 0 {
			return err
		}
		return named(cmd, args)
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "delete all warnings")
	return cmd
}
