package network

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
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
	var instances []string
	cmd := &cobra.Command{
		Use: "doctor [NETWORK...]", Short: "Try bridges out as an instance would, and say what is in the way",
		Long: "Try managed bridges out, all if none is named, also those of type vxlan: from an\n" +
			"interface of its own on the bridge the daemon gets an address, pings the host, asks\n" +
			"for names and connects to what is behind the host; and as another host it connects\n" +
			"to the ports of TCP that are published. For what fails it tells which rule of the\n" +
			"host's firewall is in the way, if one is, and the remedy. The exit status is 1 if\n" +
			"something fails.\n\n" +
			"With --instance the network plugins (CNI) of an instance's interfaces are asked\n" +
			"whether all is as they have made it.\n\n" +
			"Columns:\n\n" + output.Describe(checkColumns),
		Example: "  cuib network doctor cuibbr0\n  cuib network doctor --format json\n  cuib network doctor --instance web",
		Args:    kit.Needs(0, -1), ValidArgsFunction: e.Complete(kit.Networks),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(instances) > 0 {
				return e.examineInstances(cmd.Context(), v, instances, args)
			}
			return e.examine(cmd.Context(), v, args)
		},
	}
	cmd.Flags().StringArrayVar(&instances, "instance", nil, "ask the network plugins of this instance instead; again for more")
	e.CompleteFlag(cmd, "instance", kit.Instances)
	v.Flags(cmd, "Nnsdcf")
	return cmd
}

// bridged tells whether a network is a bridge of ours.
func bridged(n api.Network) bool { return n.Managed && (n.Type == "bridge" || n.Type == "vxlan") }

func (e *env) examine(ctx context.Context, v kit.ListView, names []string) error {
	if len(names) == 0 {
		all, err := e.Client().Networks(ctx)
		if err != nil {
			return err
		}
		for _, n := range all {
			if bridged(n) {
				names = append(names, n.Name)
			}
		}
	}
	var checks []check
	for _, name := range names {
		some, err := e.Client().ExamineNetwork(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range some {
			checks = append(checks, check{name, c})
		}
	}
	return e.showChecks(v, checks)
}

// examineInstances is examine for interfaces of instances.
func (e *env) examineInstances(ctx context.Context, v kit.ListView, instances, args []string) error {
	if len(args) > 0 {
		return errs.Invalidf("--instance: got networks too, want one or the other")
	}
	var checks []check
	for _, name := range instances {
		some, err := e.Client().ExamineInstance(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range some {
			checks = append(checks, check{name, c})
		}
	}
	return e.showChecks(v, checks)
}

func (e *env) showChecks(v kit.ListView, checks []check) error {
	if err := kit.Show(e.Env, v, checkColumns, checks); err != nil {
		return err
	}
	for _, c := range checks {
		if c.Status == "failed" {
			return kit.StatusError(1)
		}
	}
	return nil
}
