package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

// What the commands of all kinds of objects have in common.

// A keysOwner is a kind of object with configuration keys.
type keysOwner struct {
	command string // Before the verb.
	arg     string // In usage lines.
	pair    string // Object and KEY=VALUE, for examples.
	names   completer
	keys    completer
	read    func(ctx context.Context, name string) (object any, config api.ConfigMap, err error)

	setKeys, setProperties func(ctx context.Context, name string, values api.ConfigMap) error
}

func (o keysOwner) set(ctx context.Context, name string, values api.ConfigMap, isProperty *bool) error {
	if *isProperty {
		return o.setProperties(ctx, name, values)
	}
	return o.setKeys(ctx, name, values)
}

func propertyFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("property", "p", false, "a property of the object, such as description, instead of a key")
}

func newKeySet(e *env, o keysOwner) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set " + o.arg + " KEY=VALUE...", Short: "Set configuration keys",
		Example: fmt.Sprintf("  cuib %s set %s", o.command, o.pair),
		Args:    needs(2, -1), ValidArgsFunction: e.complete(o.names, o.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		values, err := settings(args[1:])
		if err != nil {
			return err
		}
		return o.set(cmd.Context(), args[0], values, isProperty)
	})
	return cmd
}

func newKeyUnset(e *env, o keysOwner) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unset " + o.arg + " KEY", Short: "Unset a configuration key",
		Example: fmt.Sprintf("  cuib %s unset %s", o.command, withoutValue(o.pair)),
		Args:    needs(2, 2), ValidArgsFunction: e.complete(o.names, o.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		return o.set(cmd.Context(), args[0], api.ConfigMap{args[1]: ""}, isProperty)
	})
	return cmd
}

func newKeyGet(e *env, o keysOwner) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get " + o.arg + " KEY", Short: "Show the value of a configuration key",
		Example: fmt.Sprintf("  cuib %s get %s", o.command, withoutValue(o.pair)),
		Args:    needs(2, 2), ValidArgsFunction: e.complete(o.names, o.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		object, config, err := o.read(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		value := config[args[1]]
		if *isProperty {
			if value, err = property(object, args[1]); err != nil {
				return err
			}
		}
		fmt.Fprintln(e.Out, value)
		return nil
	})
	return cmd
}

// withoutValue cuts "=VALUE" off.
func withoutValue(pair string) string {
	for i, r := range pair {
		if r == '=' {
			return pair[:i]
		}
	}
	return pair
}

// A lister is a command that lists objects of one kind.
type lister[T any] struct {
	what    string // Plural.
	columns []output.Column[T]
	usual   string // Columns.
	example string
	read    func(ctx context.Context) ([]T, error)
}

func listCommand[T any](e *env, l lister[T]) *cobra.Command {
	var v listView
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List " + l.what,
		Long:    "List " + l.what + ". Columns:\n\n" + output.Describe(l.columns),
		Example: l.example,
		Args:    needs(0, 1), ValidArgsFunction: e.complete(none),
		RunE: named(-1, func(cmd *cobra.Command, _ []string) error {
			all, err := l.read(cmd.Context())
			if err != nil {
				return err
			}
			return show(e, v, l.columns, all)
		}),
	}
	v.flags(cmd, l.usual)
	cmd.Flags().Bool("all-projects", false, "accepted: there is one project")
	return cmd
}

// showCommand returns the command that shows all of one object.
func showCommand[T any](e *env, use showUse, names completer, read func(ctx context.Context, name string) (T, string, error)) *cobra.Command {
	var v objectView
	cmd := &cobra.Command{
		Use: "show " + use.arg, Short: "Show all of " + use.one, Example: use.example,
		Args: needs(1, 1), ValidArgsFunction: e.complete(names, none),
		RunE: named(1, func(cmd *cobra.Command, args []string) error {
			object, _, err := read(cmd.Context(), args[0])
			return v.show(e, object, err)
		}),
	}
	v.flags(cmd)
	return cmd
}

// showUse is the help of a command that shows an object.
type showUse struct {
	arg, one, example string
}

// deleteCommand returns the command that deletes objects of a kind.
func (e *env) deleteCommand(kind string, use showUse, names completer, remove func(ctx context.Context, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: "delete " + use.arg + "...", Aliases: []string{"rm"}, Short: "Delete " + use.one, Example: use.example,
		Args: needs(1, -1), ValidArgsFunction: e.complete(names),
		RunE: named(-1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if err := remove(cmd.Context(), name); err != nil {
					return err
				}
				e.say("%s %s deleted", kind, name)
			}
			return nil
		}),
	}
}
