package kit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

// A ListView is the flags of commands that list.
type ListView struct {
	Columns, Format string
}

// Flags adds the flags; columns are those shown without one.
func (v *ListView) Flags(cmd *cobra.Command, columns string) {
	cmd.Flags().StringVarP(&v.Columns, "columns", "c", columns, "columns to show")
	v.FormatFlag(cmd)
}

// FormatFlag adds the flag of the format.
func (v *ListView) FormatFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&v.Format, "format", "f", "table", "table, compact, csv, json or yaml; with \",noheader\" or \",header\"")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
}

// Show writes a list as the flags want it.
func Show[T any](e *Env, v ListView, all []output.Column[T], items []T) error {
	columns, err := output.Select(all, v.Columns)
	if err != nil {
		return err
	}
	return v.Write(e, output.Tabulate(columns, items))
}

func (v ListView) Write(e *Env, t output.Table) error {
	f, err := output.ParseFormat(v.Format)
	if err != nil {
		return err
	}
	f.Room = e.Room()
	return f.Write(e.Out, t)
}

// An ObjectView is the flags of commands that show one object.
type ObjectView struct {
	Format string
}

// Flags adds the flags.
func (v *ObjectView) Flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&v.Format, "format", "f", "yaml", "yaml or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
}

// Show writes an object if err, that of reading it, is nil.
func (v ObjectView) Show(e *Env, object any, err error) error {
	switch {
	case err != nil:
		return err
	case v.Format == "json":
		return output.JSON(e.Out, object)
	case v.Format == "yaml":
		return output.YAML(e.Out, object)
	}
	return errs.Invalidf("format %q is neither yaml nor json", v.Format)
}

// Date formats a time for tables; the zero time and the epoch are none.
func Date(t time.Time) string {
	if t.Unix() <= 0 {
		return ""
	}
	return t.Local().Format("2006/01/02 15:04 MST")
}

// YesNo is for the columns that answer a question.
func YesNo(b bool) string { return map[bool]string{false: "NO", true: "YES"}[b] }

// Size formats a number of bytes for people.
func Size[N int64 | uint64](n N) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(int64(n), 10) + "B"
	}
	value, suffix := float64(n), 0
	for value >= unit && suffix < len(suffixes)-1 {
		value /= unit
		suffix++
	}
	return fmt.Sprintf("%.2f%s", value, suffixes[suffix])
}

var suffixes = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// Count is for the columns that show how many there are of something.
func Count[T any](list []T) string { return strconv.Itoa(len(list)) }

// Short returns the beginning of a fingerprint that is shown.
func Short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

// SnapshotName returns the name of a snapshot without that of its instance.
func SnapshotName(name string) string {
	if _, snapshot, ok := strings.Cut(name, "/"); ok {
		return snapshot
	}
	return name
}

// Percent returns how much of total a part is.
func Percent(part, total uint64) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(total))
}

// WriteUsers writes who uses an object.
func (e *Env) WriteUsers(urls []string) {
	if len(urls) > 0 {
		fmt.Fprint(e.Out, "Used by:\n")
	}
	for _, u := range slices.Sorted(slices.Values(urls)) {
		fmt.Fprintf(e.Out, "  %s\n", Reference(u))
	}
}
