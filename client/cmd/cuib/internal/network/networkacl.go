package network

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var aclColumns = []output.Column[api.NetworkACL]{
	{Key: 'n', Name: "NAME", Value: func(a api.NetworkACL) string { return a.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(a api.NetworkACL) string { return a.Description }},
	{Key: 'u', Name: "USED BY", Value: func(a api.NetworkACL) string { return kit.Count(a.UsedBy) }},
	{Key: 'e', Name: "PROJECT", Value: func(a api.NetworkACL) string { return a.Project }},
}

func newACL(e *env) *cobra.Command {
	return kit.Group("acl", "Manage network ACLs: what may pass to and from instances",
		"  cuib network acl create web\n  cuib network acl rule add web ingress action=allow protocol=tcp destination_port=80,443\n  cuib network set cuibbr0 security.acls=web",
		newACLCreate(e), newACLDelete(e), kit.NewEdit(e.Env, aclKind(e)), kit.NewKeyGet(e.Env, aclKind(e)), newACLInfo(e), newACLList(e),
		newACLRename(e), newACLRule(e), kit.NewKeySet(e.Env, aclKind(e)), kit.NewShow(e.Env, aclKind(e)), newACLLog(e), kit.NewKeyUnset(e.Env, aclKind(e)))
}

func aclKind(e *env) kit.Kind[api.NetworkACL, api.NetworkACLPut] {
	return kit.Kind[api.NetworkACL, api.NetworkACLPut]{
		Command: "network acl", What: "a network ACL", Arg: "ACL", Pair: "web user.owner=ann", Names: aclNames, Keys: aclKeys, All: userKeys,
		Read: e.Client().NetworkACL, Update: e.Client().UpdateNetworkACL,
		Put:    func(a *api.NetworkACL) *api.NetworkACLPut { return &a.NetworkACLPut },
		Config: func(a *api.NetworkACLPut) *api.ConfigMap { return &a.Config },
	}
}

// aclNames completes names of ACLs.
func aclNames(ctx context.Context, e *kit.Env, _ []string) ([]string, error) {
	return e.Client().NetworkACLNames(ctx)
}

// aclKeys completes the keys that an ACL has.
func aclKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	a, _, err := e.Client().NetworkACL(ctx, args[0])
	return kit.KeysOf(a.Config), err
}

// userKeys completes keys of what has only those of users.
func userKeys(context.Context, *kit.Env, []string) ([]string, error) { return []string{"user."}, nil }

func newACLCreate(e *env) *cobra.Command {
	return e.creation(&cobra.Command{
		Use: "create ACL [KEY=VALUE...]", Short: "Create a network ACL",
		Long:    "Create a network ACL, which has no rules yet. YAML on the standard input, in the\nform that \"cuib network acl show\" has, is what it begins with.",
		Example: "  cuib network acl create web\n  cuib network acl create web < web.yaml",
	}, "Network ACL", func(ctx context.Context, args []string, description string) error {
		req := api.NetworkACLsPost{Name: args[0]}
		if err := kit.CreateConfig[api.NetworkACL](e.Env, args[1:], &req.NetworkACLPut, &req.Config); err != nil {
			return err
		}
		req.Description = cmp.Or(description, req.Description)
		return e.Client().CreateNetworkACL(ctx, req)
	})
}

// creation completes the command that creates an object which has keys of users
// only. args are its name, and keys.
func (e *env) creation(cmd *cobra.Command, what string, create func(ctx context.Context, args []string, description string) error) *cobra.Command {
	var description string
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(1, -1), e.Complete(kit.None, userKeys)
	cmd.Flags().StringVar(&description, "description", "", "text that describes it")
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error {
		if err := create(cmd.Context(), args, description); err != nil {
			return err
		}
		e.Say("%s %s created", what, args[0])
		return nil
	})
	return cmd
}

func newACLDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Network ACL", kit.Use("ACL", "ACLs that nothing uses, with their logs", "  cuib network acl delete web"), aclNames,
		e.Client().DeleteNetworkACL)
}

func newACLRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("ACL", "an ACL that nothing uses", "  cuib network acl rename web www"), aclNames, e.Client().RenameNetworkACL)
}

func newACLList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.NetworkACL]{
		What: "network ACLs", Columns: aclColumns, Usual: "ndu", Example: "  cuib network acl list",
		Read: (*client.Client).NetworkACLs,
	})
}

func newACLLog(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show-log ACL", Short: "Show what an ACL has logged",
		Long:    "Show what rules with state=logged, and defaults that are logged, were about: a\nJSON object a line, the oldest first.",
		Example: "  cuib network acl show-log web",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(aclNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			log, err := e.Client().NetworkACLLog(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer log.Close()
			_, err = io.Copy(e.Out, log)
			return err
		}),
	}
}

func newACLInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info ACL", Short: "Show how often the rules of an ACL were used",
		Long:    "Show where an ACL is used, and how many packets and bytes began by each of its\nrules there since the kernel has them. What belongs to a connection that was\nallowed is not asked again.",
		Example: "  cuib network acl info web",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(aclNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			a, _, err := e.Client().NetworkACL(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			s, err := e.Client().NetworkACLState(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e.writeACL(a, s)
			return nil
		}),
	}
}

func (e *env) writeACL(a api.NetworkACL, s api.NetworkACLState) {
	fmt.Fprintf(e.Out, "Name: %s\n", a.Name)
	if len(a.UsedBy) > 0 {
		fmt.Fprint(e.Out, "\nUsed by:\n")
	}
	for _, url := range a.UsedBy {
		fmt.Fprintf(e.Out, "  %s\n", url)
	}
	for _, d := range []struct {
		title, name string
		rules       []api.NetworkACLRule
	}{{"Ingress", ingress, a.Ingress}, {"Egress", egress, a.Egress}} {
		if len(d.rules) == 0 {
			continue
		}
		fmt.Fprintf(e.Out, "\n%s:\n", d.title)
		for i, r := range d.rules {
			fmt.Fprintf(e.Out, "  %d: %s\n", i, ruleText(r))
			for _, c := range s.Rules {
				if c.Direction == d.name && c.Rule == i {
					fmt.Fprintf(e.Out, "     %s: %d packets, %s\n", c.Where, c.Packets, kit.Size(int64(c.Bytes))) //nolint:gosec // Less than there are.
				}
			}
		}
	}
}
