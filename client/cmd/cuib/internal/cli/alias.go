package cli

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

// expandAlias replaces the beginning of a command line if it is an alias. In
// the replacement @ARG1@, @ARG2@ ... stand for arguments and @ARGS@ for those
// that are left, which follow at the end if it is not there.
func (e *env) expandAlias(args []string) ([]string, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") || args[0] == "alias" || strings.HasPrefix(args[0], "__") {
		return args, nil
	}
	s, err := e.UserConfig()
	if err != nil || len(s.Aliases) == 0 {
		return args, err
	}
	words := longestAlias(s.Aliases, args)
	if words == 0 {
		return args, nil
	}
	target, err := split(s.Aliases[strings.Join(args[:words], " ")])
	if err != nil {
		return nil, err
	}
	return substitute(target, args[words:])
}

// longestAlias returns how many arguments are an alias; aliases can have
// several words.
func longestAlias(all map[string]string, args []string) int {
	for n := len(args); n > 0; n-- {
		if _, ok := all[strings.Join(args[:n], " ")]; ok {
			return n
		}
	}
	return 0
}

// argument is where an argument goes in an alias.
var argument = regexp.MustCompile(`@ARG([0-9]+)@`)

func substitute(target, args []string) ([]string, error) {
	used, needed := map[int]bool{}, 0
	rest := -1
	var out []string
	for _, word := range target {
		if word == "@ARGS@" {
			rest = len(out)
			continue
		}
		out = append(out, argument.ReplaceAllStringFunc(word, func(mark string) string {
			n, err := strconv.Atoi(argument.FindStringSubmatch(mark)[1])
			if err != nil || n < 1 || n > len(args) {
				needed = max(needed, n, 1)
				return mark
			}
			used[n-1] = true
			return args[n-1]
		}))
	}
	if needed > 0 {
		return nil, errs.Invalidf("the alias needs %d arguments, %d are given", needed, len(args))
	}
	if rest < 0 {
		rest = len(out)
	}
	var left []string
	for i, a := range args {
		if !used[i] {
			left = append(left, a)
		}
	}
	return slices.Insert(out, rest, left...), nil
}

// split cuts a command line into words as a shell does, with quotes and
// backslashes.
func split(line string) ([]string, error) {
	var w words
	for _, r := range line {
		w.add(r)
	}
	if w.quote != 0 || w.escaped {
		return nil, errs.Invalidf("alias %q: a quote is not closed", line)
	}
	w.end()
	return w.out, nil
}

// words is the state of [split].
type words struct {
	out     []string
	word    strings.Builder
	started bool // There is a word, which can be empty.
	quote   rune // Zero outside of quotes.
	escaped bool // By a backslash.
}

func (w *words) add(r rune) {
	blank := r == ' ' || r == '\t' || r == '\n'
	switch {
	case w.escaped:
		w.word.WriteRune(r)
		w.escaped = false
	case r == '\\' && w.quote != '\'':
		w.escaped, w.started = true, true
	case w.quote != 0 && r == w.quote:
		w.quote = 0
	case w.quote == 0 && (r == '\'' || r == '"'):
		w.quote, w.started = r, true
	case w.quote == 0 && blank:
		w.end()
	default:
		w.word.WriteRune(r)
		w.started = true
	}
}

// end ends a word, if there is one.
func (w *words) end() {
	if w.started {
		w.out = append(w.out, w.word.String())
		w.word.Reset()
		w.started = false
	}
}

type aliasEntry struct {
	Alias  string `json:"alias"`
	Target string `json:"target"`
}

var aliasColumns = []output.Column[aliasEntry]{
	{Key: 'a', Name: "ALIAS", Value: func(a aliasEntry) string { return a.Alias }},
	{Key: 't', Name: "TARGET", Value: func(a aliasEntry) string { return a.Target }},
}

func newAlias(e *env) *cobra.Command {
	return kit.Group("alias", "Keep your own commands", "  cuib alias add ls 'list -c ns4'\n  cuib alias list",
		newAliasAdd(e), newAliasList(e), newAliasRemove(e), newAliasRename(e))
}

func newAliasAdd(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "add ALIAS COMMAND", Short: "Add an alias",
		Long: "Add an alias for a command. In it @ARG1@, @ARG2@ ... stand for arguments of the\nalias, and @ARGS@ for those that are left; without that they follow at the end.",
		Args: kit.Needs(2, 2), Example: "  cuib alias add ls 'list -c ns4'\n  cuib alias add bash 'exec @ARG1@ -- bash @ARGS@'",
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := split(args[1]); err != nil {
				return err
			}
			return e.changeAliases(func(all map[string]string) error {
				if _, ok := all[args[0]]; ok {
					return errs.Conflictf("alias %q exists already", args[0])
				}
				all[args[0]] = args[1]
				return nil
			})
		},
	}
}

func newAliasRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove ALIAS", Aliases: []string{"rm"}, Short: "Remove an alias",
		Args: kit.Needs(1, 1), Example: "  cuib alias remove ls",
		RunE: func(_ *cobra.Command, args []string) error {
			return e.changeAliases(func(all map[string]string) error {
				if _, ok := all[args[0]]; !ok {
					return errs.NotFoundf("alias %q not found", args[0])
				}
				delete(all, args[0])
				return nil
			})
		},
	}
}

func newAliasRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename ALIAS NAME", Aliases: []string{"mv"}, Short: "Rename an alias",
		Args: kit.Needs(2, 2), Example: "  cuib alias rename ls l",
		RunE: func(_ *cobra.Command, args []string) error {
			return e.changeAliases(func(all map[string]string) error {
				target, ok := all[args[0]]
				if !ok {
					return errs.NotFoundf("alias %q not found", args[0])
				}
				if _, ok := all[args[1]]; ok {
					return errs.Conflictf("alias %q exists already", args[1])
				}
				delete(all, args[0])
				all[args[1]] = target
				return nil
			})
		},
	}
}

func (e *env) changeAliases(change func(map[string]string) error) error {
	return e.ChangeUserConfig(func(c *kit.UserConfig) error { return change(c.Aliases) })
}

func newAliasList(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List aliases",
		Long: "List aliases. Columns:\n\n" + output.Describe(aliasColumns),
		Args: kit.Needs(0, 0), Example: "  cuib alias list",
		RunE: func(*cobra.Command, []string) error {
			s, err := e.UserConfig()
			if err != nil {
				return err
			}
			var all []aliasEntry
			for name, target := range s.Aliases {
				all = append(all, aliasEntry{name, target})
			}
			slices.SortFunc(all, func(a, b aliasEntry) int { return cmp.Compare(a.Alias, b.Alias) })
			return kit.Show(e.Env, v, aliasColumns, all)
		},
	}
	v.Flags(cmd, "at")
	return cmd
}
