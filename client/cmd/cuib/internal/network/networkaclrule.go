package network

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

const (
	ingress = "ingress"
	egress  = "egress"
)

// A ruleField is a field of a rule by the name that commands have for it.
type ruleField struct {
	name   string
	of     func(r *api.NetworkACLRule) *string
	values []string // That can be completed.
}

var ruleFields = []ruleField{
	{"action", func(r *api.NetworkACLRule) *string { return &r.Action }, []string{"allow", "allow-stateless", "reject", "drop"}},
	{"protocol", func(r *api.NetworkACLRule) *string { return &r.Protocol }, []string{"tcp", "udp", "icmp4", "icmp6"}},
	{"source", func(r *api.NetworkACLRule) *string { return &r.Source }, nil},
	{"source_port", func(r *api.NetworkACLRule) *string { return &r.SourcePort }, nil},
	{"destination", func(r *api.NetworkACLRule) *string { return &r.Destination }, nil},
	{"destination_port", func(r *api.NetworkACLRule) *string { return &r.DestinationPort }, nil},
	{"icmp_type", func(r *api.NetworkACLRule) *string { return &r.ICMPType }, nil},
	{"icmp_code", func(r *api.NetworkACLRule) *string { return &r.ICMPCode }, nil},
	{"state", func(r *api.NetworkACLRule) *string { return &r.State }, []string{"enabled", "disabled", "logged"}},
	{"description", func(r *api.NetworkACLRule) *string { return &r.Description }, nil},
}

// ruleText is a rule in one line, as it is added.
func ruleText(r api.NetworkACLRule) string {
	var all []string
	for _, f := range ruleFields {
		if v := *f.of(&r); v != "" {
			all = append(all, f.name+"="+v)
		}
	}
	return strings.Join(all, " ")
}

// ruleOf reads KEY=VALUE arguments of a rule.
func ruleOf(args []string) (r api.NetworkACLRule, given api.ConfigMap, err error) {
	given, err = kit.Pairs(args)
	if err != nil {
		return r, nil, err
	}
	for _, key := range kit.KeysOf(given) {
		f := slices.IndexFunc(ruleFields, func(f ruleField) bool { return f.name == key })
		if f < 0 {
			return r, nil, errs.Invalidf("got %q, want fields of a rule: %s", key, strings.Join(fieldNames(""), ", "))
		}
		*ruleFields[f].of(&r) = given[key]
	}
	return r, given, nil
}

func fieldNames(suffix string) []string {
	var all []string
	for _, f := range ruleFields {
		all = append(all, f.name+suffix)
	}
	return all
}

// ruleWords completes the fields of a rule, and the values that are known.
func ruleWords(context.Context, *kit.Env, []string) ([]string, error) {
	var all []string
	for _, f := range ruleFields {
		all = append(all, f.name+"=")
		for _, v := range f.values {
			all = append(all, f.name+"="+v)
		}
	}
	return all, nil
}

func directions(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{ingress, egress}, nil
}

// rulesIn returns the rules of a direction.
func rulesIn(put *api.NetworkACLPut, direction string) (*[]api.NetworkACLRule, error) {
	switch direction {
	case ingress:
		return &put.Ingress, nil
	case egress:
		return &put.Egress, nil
	}
	return nil, errs.Invalidf("got direction %q, want ingress (to instances) or egress (from them)", direction)
}

func newACLRule(e *env) *cobra.Command {
	return kit.Group("rule", "Add and remove rules of ACLs",
		"  cuib network acl rule add web ingress action=allow source=@internal protocol=tcp destination_port=80\n  cuib network acl rule remove web ingress destination_port=80",
		newRuleAdd(e), newRuleRemove(e))
}

const ruleAddLong = `Add a rule to an ACL. Its direction is ingress, to instances, or egress, from
them. Fields are KEY=VALUE; those that are not given are for all:

  action            allow, allow-stateless, reject or drop
  source            addresses, networks, FIRST-LAST, $SET, @internal, @external,
  destination       and names of ACLs, networks and instances
  protocol          tcp, udp, icmp4 or icmp6
  source_port       ports and ranges, such as 80,8000-8080
  destination_port
  icmp_type         numbers
  icmp_code
  state             enabled, disabled or logged

Rules that drop go first, then those that reject, then those that allow.`

func newRuleAdd(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "add ACL DIRECTION KEY=VALUE...", Short: "Add a rule to an ACL", Long: ruleAddLong,
		Example: "  cuib network acl rule add web ingress action=allow protocol=tcp destination_port=80,443\n  cuib network acl rule add web egress action=reject destination=db state=logged",
		Args:    kit.Needs(3, -1), ValidArgsFunction: e.Complete(aclNames, directions, ruleWords),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			r, _, err := ruleOf(args[2:])
			if err != nil {
				return err
			}
			if r.State == "" {
				r.State = "enabled"
			}
			if description != "" {
				r.Description = description
			}
			return aclKind(e).Change(cmd.Context(), args[0], func(put *api.NetworkACLPut) error {
				list, err := rulesIn(put, args[1])
				if err == nil {
					*list = append(*list, r)
				}
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the rule")
	return cmd
}

func newRuleRemove(e *env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove ACL DIRECTION [KEY=VALUE...]", Aliases: []string{"rm"}, Short: "Remove a rule from an ACL",
		Long:    "Remove the rule with these fields from an ACL. If several have them, none is\nremoved without --force, which removes all of them.",
		Example: "  cuib network acl rule remove web ingress destination_port=80",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(aclNames, directions, ruleWords),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			r, given, err := ruleOf(args[2:])
			if err != nil {
				return err
			}
			return aclKind(e).Change(cmd.Context(), args[0], func(put *api.NetworkACLPut) error {
				list, err := rulesIn(put, args[1])
				if err != nil {
					return err
				}
				return removeRules(list, func(have api.NetworkACLRule) bool { return hasFields(have, r, given) }, force)
			})
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove all rules with these fields")
	return cmd
}

// hasFields reports whether a rule has all fields that are given of another.
func hasFields(have, want api.NetworkACLRule, given api.ConfigMap) bool {
	for _, f := range ruleFields {
		if _, ok := given[f.name]; ok && *f.of(&have) != *f.of(&want) {
			return false
		}
	}
	return true
}

func removeRules(list *[]api.NetworkACLRule, is func(api.NetworkACLRule) bool, force bool) error {
	left := slices.DeleteFunc(slices.Clone(*list), is)
	switch n := len(*list) - len(left); {
	case n == 0:
		return errs.NotFoundf("no rule with these fields found")
	case n > 1 && !force:
		return errs.Conflictf("%d rules have these fields: give more of them, or --force to remove all", n)
	}
	*list = left
	return nil
}
