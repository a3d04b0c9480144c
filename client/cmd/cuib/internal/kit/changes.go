package kit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

// shortFormat is the format of changes that has a letter and a path a line.
const shortFormat = "short"

var changeColumns = []output.Column[api.FileChange]{
	{Key: 'o', Name: "CHANGE", Value: func(c api.FileChange) string { return strings.ToUpper(c.Op) }},
	{Key: 't', Name: "TYPE", Value: func(c api.FileChange) string { return strings.ToUpper(c.Type) }},
	{Key: 'p', Name: "PATH", Value: func(c api.FileChange) string { return c.Path }},
}

// DiffHelp explains what the commands that show changes print.
const DiffHelp = `Each line has a letter and a path: A was added, M was modified, in what it holds
or in its attributes, R was removed. What was renamed was removed and added.`

// A ChangesView is the flags of commands that show which files changed.
type ChangesView struct {
	ListView
}

// Flags adds the flags.
func (v *ChangesView) Flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&v.Columns, "columns", "c", "otp", "columns to show: o for the change, t for the type, p for the path")
	cmd.Flags().StringVarP(&v.Format, "format", "f", shortFormat, "short, table, compact, csv, json or yaml")
	formats := append([]string{shortFormat}, output.Formats...)
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
}

// Show writes changes, in the order of their paths, if err, that of getting
// them, is nil.
func (v ChangesView) Show(e *Env, all []api.FileChange, err error) error {
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b api.FileChange) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(b.Op, a.Op)) })
	if v.Format != shortFormat {
		return Show(e, v.ListView, changeColumns, all)
	}
	for _, c := range all {
		if _, err := fmt.Fprintf(e.Out, "%.1s %s\n", strings.ToUpper(c.Op), oneLine(c.Path)); err != nil {
			return err
		}
	}
	return nil
}

// oneLine returns a path as it is or, if it has what would end the line or
// move the cursor, in quotes.
func oneLine(path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}
