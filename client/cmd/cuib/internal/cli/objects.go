package cli

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// What the commands of all kinds of objects have in common.

// A kind is a kind of object T whose writable part is P.
type kind[T, P any] struct {
	command string // Before the verb.
	arg     string // In usage lines.
	pair    string // Object and KEY=VALUE, for examples.
	names   completer
	keys    completer

	read   func(ctx context.Context, name string) (T, string, error)
	update func(ctx context.Context, name string, put P, etag string) error
	put    func(object *T) *P
	config func(put *P) *api.ConfigMap
}

// change reads an object, changes it, and writes it back.
func (k kind[T, P]) change(ctx context.Context, name string, change func(put *P) error) error {
	object, etag, err := k.read(ctx, name)
	if err != nil {
		return err
	}
	put := k.put(&object)
	if config := k.config(put); *config == nil {
		*config = api.ConfigMap{}
	}
	if err := change(put); err != nil {
		return err
	}
	return k.update(ctx, name, *put, etag)
}

func (k kind[T, P]) set(ctx context.Context, name string, values api.ConfigMap, isProperty *bool) error {
	return k.change(ctx, name, func(put *P) error {
		if *isProperty {
			return setProperties(put, values)
		}
		return setKeys(*k.config(put), values)
	})
}

func propertyFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("property", "p", false, "a property of the object, such as description, instead of a key")
}

func newKeySet[T, P any](e *env, k kind[T, P]) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set " + k.arg + " KEY=VALUE...", Short: "Set configuration keys",
		Example: fmt.Sprintf("  cuib %s set %s", k.command, k.pair),
		Args:    needs(2, -1), ValidArgsFunction: e.complete(k.names, k.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		values, err := e.settings(args[1:])
		if err != nil {
			return err
		}
		return k.set(cmd.Context(), args[0], values, isProperty)
	})
	return cmd
}

func newKeyUnset[T, P any](e *env, k kind[T, P]) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unset " + k.arg + " KEY", Short: "Unset a configuration key",
		Example: fmt.Sprintf("  cuib %s unset %s", k.command, keyOf(k.pair)),
		Args:    needs(2, 2), ValidArgsFunction: e.complete(k.names, k.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		return k.set(cmd.Context(), args[0], api.ConfigMap{args[1]: ""}, isProperty)
	})
	return cmd
}

func newKeyGet[T, P any](e *env, k kind[T, P]) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get " + k.arg + " KEY", Short: "Show the value of a configuration key",
		Example: fmt.Sprintf("  cuib %s get %s", k.command, keyOf(k.pair)),
		Args:    needs(2, 2), ValidArgsFunction: e.complete(k.names, k.keys, none),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = named(1, func(cmd *cobra.Command, args []string) error {
		object, _, err := k.read(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		value := (*k.config(k.put(&object)))[args[1]]
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

// newEdit returns the command that edits an object as YAML.
func newEdit[T, P any](e *env, k kind[T, P]) *cobra.Command {
	one := objectOf(k.pair)
	return &cobra.Command{
		Use: "edit " + k.arg, Short: "Edit as YAML",
		Long:    "Edit as YAML in $EDITOR. YAML on the standard input is taken instead.",
		Example: fmt.Sprintf("  cuib %[1]s edit %[2]s\n  cuib %[1]s edit %[2]s < %[2]s.yaml", k.command, one),
		Args:    needs(1, 1), ValidArgsFunction: e.complete(k.names, none),
		RunE: named(1, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return e.edit(ctx, edit{
				help: editHelp,
				read: func() (any, string, error) {
					object, etag, err := k.read(ctx, args[0])
					return object, etag, err
				},
				write: func(text []byte, etag string) error {
					var put P
					if err := output.ParseYAMLPart(text, &put); err != nil {
						return err
					}
					return k.update(ctx, args[0], put, etag)
				},
			})
		}),
	}
}

// newShow returns the command that shows all of an object.
func newShow[T, P any](e *env, k kind[T, P]) *cobra.Command {
	one := objectOf(k.pair)
	return showCommand(e, use(k.arg, "an object", fmt.Sprintf("  cuib %s show %s", k.command, one)), k.names, k.read)
}

// keyOf cuts the value off.
func keyOf(pair string) string {
	before, _, _ := strings.Cut(pair, "=")
	return before
}

// objectOf cuts KEY=VALUE off.
func objectOf(pair string) string {
	object, _, _ := strings.Cut(pair, " ")
	return object
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
func showCommand[T any](e *env, u showUse, names completer, read func(ctx context.Context, name string) (T, string, error)) *cobra.Command {
	var v objectView
	cmd := &cobra.Command{
		Use: "show " + u.arg, Short: "Show all of " + u.one, Example: u.example,
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

// use returns the help of a command for one object.
func use(arg, one, example string) showUse { return showUse{arg, one, example} }

// deleteCommand returns the command that deletes objects of a kind.
func (e *env) deleteCommand(kind string, u showUse, names completer, remove func(ctx context.Context, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: "delete " + u.arg + "...", Aliases: []string{"rm"}, Short: "Delete " + u.one, Example: u.example,
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

func imageAliases(names []string) []api.ImageAlias {
	var out []api.ImageAlias
	for _, name := range names {
		out = append(out, api.ImageAlias{Name: name})
	}
	return out
}

// freeAliases deletes those aliases that exist.
func (e *env) freeAliases(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := e.client().DeleteImageAlias(ctx, name); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// mergeKeys returns base with more in it.
func mergeKeys(base, more api.ConfigMap) api.ConfigMap {
	out := api.ConfigMap{}
	maps.Copy(out, base)
	maps.Copy(out, more)
	return out
}

// createConfig reads what an object is created with: YAML from the standard
// input into put, and arguments KEY=VALUE.
func (e *env) createConfig(args []string, put any) (api.ConfigMap, error) {
	text, err := e.piped()
	if err != nil {
		return nil, err
	}
	if err := output.ParseYAMLPart(text, put); err != nil {
		return nil, err
	}
	return pairs(args)
}
