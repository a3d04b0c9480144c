package kit

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// What the commands of all kinds of objects have in common.

// A Kind is a kind of object T whose writable part is P.
type Kind[T, P any] struct {
	Command string    // Before the verb.
	What    string    // With its article.
	Arg     string    // In usage lines.
	Pair    string    // Object and KEY=VALUE, for examples.
	Within  Completer // Of what the object is in, if two arguments name it. A slash joins them then.
	Names   Completer
	Keys    Completer // Of those that it has.
	All     Completer // Of those that it can have, as KEY=; Keys if nil.

	Read   func(ctx context.Context, name string) (T, string, error)
	Update func(ctx context.Context, name string, put P, etag string) error
	Put    func(object *T) *P
	Config func(put *P) *api.ConfigMap

	// Preview says what Update would change of instances; nil where that
	// changes none.
	Preview func(ctx context.Context, name string, put P, etag string) ([]api.InstanceChange, error)
}

// parts returns how many arguments name an object.
func (k Kind[T, P]) parts() int {
	if k.Within != nil {
		return 2
	}
	return 1
}

// split returns the name of an object and the arguments after it.
func (k Kind[T, P]) split(args []string) (name string, rest []string) {
	return strings.Join(args[:k.parts()], "/"), args[k.parts():]
}

// complete completes the name of an object and the arguments after it.
func (k Kind[T, P]) complete(e *Env, after ...Completer) cobra.CompletionFunc {
	by := append([]Completer{k.Names}, after...)
	if k.Within != nil {
		by = append([]Completer{k.Within}, by...)
	}
	return e.Complete(by...)
}

// Change reads an object, changes it, and writes it back.
func (k Kind[T, P]) Change(ctx context.Context, name string, change func(put *P) error) error {
	return k.changeBy(ctx, name, change, k.Update)
}

// Previewer returns Change for who only wants to see what it would change of
// instances.
func (k Kind[T, P]) Previewer(e *Env) func(ctx context.Context, name string, change func(put *P) error) error {
	return func(ctx context.Context, name string, change func(put *P) error) error {
		return k.changeBy(ctx, name, change, k.previewed(e))
	}
}

// changeBy is Change with another way to write it back.
func (k Kind[T, P]) changeBy(ctx context.Context, name string, change func(put *P) error, update updater[P]) error {
	object, etag, err := k.Read(ctx, name)
	if err != nil {
		return err
	}
	put := k.Put(&object)
	if config := k.Config(put); *config == nil {
		*config = api.ConfigMap{}
	}
	if err := change(put); err != nil {
		return err
	}
	return update(ctx, name, *put, etag)
}

// setter is what the commands that set and unset keys have in common.
type setter[T, P any] struct {
	kind       Kind[T, P]
	isProperty *bool
	update     updater[P]
}

func newSetter[T, P any](e *Env, k Kind[T, P], cmd *cobra.Command) setter[T, P] {
	return setter[T, P]{k, propertyFlag(cmd), k.updater(e, cmd)}
}

func (s setter[T, P]) set(ctx context.Context, name string, values api.ConfigMap) error {
	return s.kind.changeBy(ctx, name, func(put *P) error {
		if *s.isProperty {
			return SetProperties(put, values)
		}
		return SetKeys(*s.kind.Config(put), values)
	}, s.update)
}

func propertyFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("property", "p", false, "a property of the object, such as description, instead of a key")
}

// NewKeySet returns the command that sets keys of an object.
func NewKeySet[T, P any](e *Env, k Kind[T, P]) *cobra.Command {
	keys := k.All
	if keys == nil {
		keys = k.Keys
	}
	cmd := &cobra.Command{
		Use: "set " + k.Arg + " KEY=VALUE...", Short: "Set configuration keys of " + k.What,
		Example: fmt.Sprintf("  cuib %s set %s", k.Command, k.Pair),
		Args:    Needs(k.parts()+1, -1), ValidArgsFunction: k.complete(e, keys),
	}
	s := newSetter(e, k, cmd)
	cmd.RunE = Named(1, func(cmd *cobra.Command, args []string) error {
		name, rest := k.split(args)
		values, err := e.Settings(rest)
		if err != nil {
			return err
		}
		return s.set(cmd.Context(), name, values)
	})
	return cmd
}

// NewKeyUnset returns the command that unsets a key of an object.
func NewKeyUnset[T, P any](e *Env, k Kind[T, P]) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unset " + k.Arg + " KEY", Short: "Unset a configuration key of " + k.What,
		Example: fmt.Sprintf("  cuib %s unset %s", k.Command, keyOf(k.Pair)),
		Args:    Needs(k.parts()+1, k.parts()+1), ValidArgsFunction: k.complete(e, k.Keys, None),
	}
	s := newSetter(e, k, cmd)
	cmd.RunE = Named(1, func(cmd *cobra.Command, args []string) error {
		name, rest := k.split(args)
		return s.set(cmd.Context(), name, api.ConfigMap{rest[0]: ""})
	})
	return cmd
}

// NewKeyGet returns the command that shows the value of a key of an object.
func NewKeyGet[T, P any](e *Env, k Kind[T, P]) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get " + k.Arg + " KEY", Short: "Show the value of a configuration key of " + k.What,
		Example: fmt.Sprintf("  cuib %s get %s", k.Command, keyOf(k.Pair)),
		Args:    Needs(k.parts()+1, k.parts()+1), ValidArgsFunction: k.complete(e, k.Keys, None),
	}
	isProperty := propertyFlag(cmd)
	cmd.RunE = Named(1, func(cmd *cobra.Command, args []string) error {
		name, rest := k.split(args)
		object, _, err := k.Read(cmd.Context(), name)
		if err != nil {
			return err
		}
		value := (*k.Config(k.Put(&object)))[rest[0]]
		if *isProperty {
			if value, err = Property(object, rest[0]); err != nil {
				return err
			}
		}
		fmt.Fprintln(e.Out, value)
		return nil
	})
	return cmd
}

// NewEdit returns the command that edits an object as YAML.
func NewEdit[T, P any](e *Env, k Kind[T, P]) *cobra.Command {
	one := objectOf(k.Pair)
	cmd := &cobra.Command{
		Use: "edit " + k.Arg, Short: "Edit " + k.What + " as YAML",
		Long:    "Edit " + k.What + " as YAML in $EDITOR. If YAML is on the standard input, that\nis taken instead.",
		Example: fmt.Sprintf("  cuib %[1]s edit %[2]s\n  cuib %[1]s edit %[2]s < %[3]s.yaml", k.Command, one, one[strings.LastIndex(one, " ")+1:]),
		Args:    Needs(k.parts(), k.parts()), ValidArgsFunction: k.complete(e, None),
	}
	update := k.updater(e, cmd)
	cmd.RunE = Named(1, func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		name, _ := k.split(args)
		return e.Edit(ctx, Edit{
			Help: EditHelp,
			Read: func() (any, string, error) {
				object, etag, err := k.Read(ctx, name)
				return object, etag, err
			},
			Write: func(text []byte, etag string) error {
				var put P
				if err := output.ParseYAMLPart[T](text, &put); err != nil {
					return err
				}
				return update(ctx, name, put, etag)
			},
		})
	})
	return cmd
}

// NewShow returns the command that shows all of an object.
func NewShow[T, P any](e *Env, k Kind[T, P]) *cobra.Command {
	one := objectOf(k.Pair)
	return ShowCommand(e, Use(k.Arg, k.What, fmt.Sprintf("  cuib %s show %s", k.Command, one)), k.Names, k.Read)
}

// keyOf cuts the value off.
func keyOf(pair string) string {
	before, _, _ := strings.Cut(pair, "=")
	return before
}

// objectOf cuts KEY=VALUE off.
func objectOf(pair string) string {
	return pair[:max(0, strings.LastIndex(pair, " "))]
}

// A Lister is a command that lists objects of one kind.
type Lister[T any] struct {
	What    string // Plural.
	Columns []output.Column[T]
	Usual   string // Columns.
	Example string
	Shared  bool // There is no such object in a project.
	Read    func(c *client.Client, ctx context.Context) ([]T, error)
}

// ListCommand returns the command that lists objects.
func ListCommand[T any](e *Env, l Lister[T]) *cobra.Command {
	var v ListView
	var projects AllProjects
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List " + l.What,
		Long:    "List " + l.What + ". Columns:\n\n" + output.Describe(l.Columns),
		Example: l.Example,
		Args:    Needs(0, 1), ValidArgsFunction: e.Complete(None),
		RunE: Nameless(func(cmd *cobra.Command) error {
			c, err := projects.Client(e)
			if err != nil {
				return err
			}
			all, err := l.Read(c, cmd.Context())
			if err != nil {
				return err
			}
			AddColumn(projects, cmd, l.Columns, &v)
			return Show(e, v, l.Columns, all)
		}),
	}
	v.Flags(cmd, l.Usual)
	if !l.Shared {
		projects.Flag(cmd)
	}
	return cmd
}

// A PartLister is a command that lists what one object has of a kind.
type PartLister[T any] struct {
	Use     string
	Short   string
	Example string
	Of      Completer // The object.
	Columns []output.Column[T]
	Usual   string // Columns.
	Read    func(ctx context.Context, object string) ([]T, error)
	Brief   func(ctx context.Context, object string) ([]T, error) // As much as the columns need; nil for Read.
}

// reader returns what reads as much as a view shows.
func (l PartLister[T]) reader(v ListView) func(ctx context.Context, object string) ([]T, error) {
	name, _, _ := strings.Cut(v.Format, ",")
	if l.Brief == nil || name == "json" || name == "yaml" {
		return l.Read
	}
	return l.Brief
}

// ListPartsCommand returns the command that lists what an object has.
func ListPartsCommand[T any](e *Env, l PartLister[T]) *cobra.Command {
	var v ListView
	cmd := &cobra.Command{
		Use: l.Use, Short: l.Short,
		Long:    l.Short + ". Columns:\n\n" + output.Describe(l.Columns),
		Example: l.Example,
		Args:    Needs(1, 1), ValidArgsFunction: e.Complete(l.Of, None),
		RunE: Named(1, func(cmd *cobra.Command, args []string) error {
			all, err := l.reader(v)(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return Show(e, v, l.Columns, all)
		}),
	}
	if cmd.Name() == "list" {
		cmd.Aliases = []string{"ls"}
	}
	v.Flags(cmd, l.Usual)
	return cmd
}

// ShowCommand returns the command that shows all of one object.
func ShowCommand[T any](e *Env, u Usage, names Completer, read func(ctx context.Context, name string) (T, string, error)) *cobra.Command {
	var v ObjectView
	cmd := &cobra.Command{
		Use: "show " + u.arg, Short: "Show all of " + u.one, Example: u.example,
		Args: Needs(1, 1), ValidArgsFunction: e.Complete(names, None),
		RunE: Named(1, func(cmd *cobra.Command, args []string) error {
			object, _, err := read(cmd.Context(), args[0])
			return v.Show(e, object, err)
		}),
	}
	v.Flags(cmd)
	return cmd
}

// Usage is the help of a command that shows an object.
type Usage struct {
	arg, one, example string
}

// Use returns the help of a command for one object.
func Use(arg, one, example string) Usage { return Usage{arg, one, example} }

// DeleteCommand returns the command that deletes objects of a kind.
func (e *Env) DeleteCommand(kind string, u Usage, names Completer, remove func(ctx context.Context, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: "delete " + u.arg + "...", Aliases: []string{"rm"}, Short: "Delete " + u.one, Example: u.example,
		Args: Needs(1, -1), ValidArgsFunction: e.Complete(names),
		RunE: Named(-1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if err := remove(cmd.Context(), name); err != nil {
					return err
				}
				e.Say("%s %s deleted", kind, name)
			}
			return nil
		}),
	}
}

// RenameCommand returns the command that renames an object.
func (e *Env) RenameCommand(u Usage, names Completer, rename func(ctx context.Context, name, to string) error) *cobra.Command {
	return &cobra.Command{
		Use: "rename " + u.arg + " NAME", Aliases: []string{"mv"}, Short: "Rename " + u.one, Example: u.example,
		Args: Needs(2, 2), ValidArgsFunction: e.Complete(names, None),
		RunE: Named(-1, func(cmd *cobra.Command, args []string) error {
			return rename(cmd.Context(), args[0], args[1])
		}),
	}
}

// ImageAliases returns aliases as a request has them.
func ImageAliases(names []string) []api.ImageAlias {
	var out []api.ImageAlias
	for _, name := range names {
		out = append(out, api.ImageAlias{Name: name})
	}
	return out
}

// NewAliases are those that a new image is made with. With reuse it gets them
// when it is there: see [MoveAliases].
func NewAliases(names []string, reuse bool) []api.ImageAlias { //nolint:revive // reuse is the user's flag.
	if reuse {
		return nil
	}
	return ImageAliases(names)
}

// MoveAliases has aliases name an image that was just made, also if they named
// others before, which they did until now: it could have failed.
func MoveAliases(ctx context.Context, c *client.Client, names []string, made *client.Operation) error {
	fingerprint := fmt.Sprint(made.Metadata["fingerprint"])
	for _, name := range names {
		alias, etag, err := c.ImageAlias(ctx, name)
		switch alias.Target = fingerprint; {
		case err == nil:
			err = c.UpdateImageAlias(ctx, name, alias.ImageAliasesEntryPut, etag)
		case errs.Is(err, errs.NotFound):
			err = c.CreateImageAlias(ctx, api.ImageAliasesEntry{ImageAliasesEntryPut: alias.ImageAliasesEntryPut, Name: name})
		}
		if err != nil {
			return fmt.Errorf("image %s is there, but without alias %q: %w", Short(fingerprint), name, err)
		}
	}
	return nil
}

// CreateConfig reads what an object, of which T is the whole, is created with:
// YAML from the standard input into put, and arguments KEY=VALUE into config,
// which is in put.
func CreateConfig[T any](e *Env, args []string, put any, config *api.ConfigMap) error {
	text, err := e.piped()
	if err != nil {
		return err
	}
	if err := output.ParseYAMLPart[T](text, put); err != nil {
		return err
	}
	keys, err := Pairs(args)
	if err != nil {
		return err
	}
	if *config == nil {
		*config = api.ConfigMap{}
	}
	maps.Copy(*config, keys)
	return nil
}
