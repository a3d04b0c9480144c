package network

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

// check is a check of one of several networks.
type check struct {
	Network string `json:"network" yaml:"network"`
	api.NetworkCheck
}

var checkColumns = []output.Column[check]{
	{Key: 'N', Name: "NETWORK", Value: func(c check) string { return c.Network }},
	{Key: 'n', Name: "CHECK", Value: func(c check) string { return c.Name }},
	{Key: 's', Name: "STATUS", Value: func(c check) string { return c.Status }},
	{Key: 'd', Name: "FOUND", Value: func(c check) string { return c.Detail }},
	{Key: 'c', Name: "CAUSE", Value: func(c check) string { return c.Cause }},
	{Key: 'f', Name: "REMEDY", Value: func(c check) string { return c.Remedy }},
}

func newDoctor(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "doctor [NETWORK...]", Short: "Try bridges out as an instance would, and say what is in the way",
		Long: "Try managed bridges out, all if none is named: from an interface of its own on the\n" +
			"bridge the daemon gets an address, pings the host, asks for names and connects to\n" +
			"what is behind the host. For what fails it tells which rule of the host's firewall\n" +
			"is in the way, if one is, and the remedy. The exit status is 1 if something fails.",
		Example: "  cuib network doctor cuibbr0\n  cuib network doctor --format json",
		Args:    kit.Needs(0, -1), ValidArgsFunction: e.Complete(kit.Networks),
		RunE: func(cmd *cobra.Command, args []string) error { return e.examine(cmd.Context(), v, args) },
	}
	v.Flags(cmd, "Nnsdcf")
	return cmd
}

func (e *env) examine(ctx context.Context, v kit.ListView, names []string) error {
	if len(names) == 0 {
		all, err := e.Client().Networks(ctx)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Managed && n.Type == "bridge" {
				names = append(names, n.Name)
			}
		}
	}
	var checks []check
	failed := false
	for _, name := range names {
		some, err := e.Client().ExamineNetwork(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range some {
			checks = append(checks, check{name, c})
			failed = failed || c.Status == "failed"
		}
	}
	if err := kit.Show(e.Env, v, checkColumns, checks); err != nil {
		return err
	}
	if failed {
		return kit.StatusError(1)
	}
	return nil
}
