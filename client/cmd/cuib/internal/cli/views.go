package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

// A listView is the flags of commands that list.
type listView struct {
	columns, format string
}

func (v *listView) flags(cmd *cobra.Command, columns string) {
	cmd.Flags().StringVarP(&v.columns, "columns", "c", columns, "columns to show")
	v.formatFlag(cmd)
}

func (v *listView) formatFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&v.format, "format", "f", "table", "table, compact, csv, json or yaml; with \",noheader\" or \",header\"")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
}

// show writes a list as the flags want it.
func show[T any](e *env, v listView, all []output.Column[T], items []T) error {
	columns, err := output.Select(all, v.columns)
	if err != nil {
		return err
	}
	return v.write(e, output.Tabulate(columns, items))
}

func (v listView) write(e *env, t output.Table) error {
	f, err := output.ParseFormat(v.format)
	if err != nil {
		return err
	}
	return f.Write(e.Out, t)
}

// An objectView is the flags of commands that show one object.
type objectView struct {
	format string
}

func (v *objectView) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&v.format, "format", "f", "yaml", "yaml or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
}

// show writes an object if err, that of reading it, is nil.
func (v objectView) show(e *env, object any, err error) error {
	switch {
	case err != nil:
		return err
	case v.format == "json":
		return output.JSON(e.Out, object)
	case v.format == "yaml":
		return output.YAML(e.Out, object)
	}
	return errs.Invalidf("format %q is neither yaml nor json", v.format)
}

// date formats a time for tables; the zero time and the epoch are none.
func date(t time.Time) string {
	if t.Unix() <= 0 {
		return ""
	}
	return t.Local().Format("2006/01/02 15:04 MST")
}

// parseTime parses a day or a time.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errs.Invalidf("time %q is not of the form 2030-01-31 or 2030-01-31T12:00:00Z", s)
}

func yesNo(b bool) string { return map[bool]string{false: "NO", true: "YES"}[b] }

// size formats a number of bytes for people.
func size[N int64 | uint64](n N) string {
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

// count is for the columns that show how many there are of something.
func count[T any](list []T) string { return strconv.Itoa(len(list)) }

// short returns the beginning of a fingerprint that is shown.
func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

// snapshotName returns the name of a snapshot without that of its instance.
func snapshotName(name string) string {
	if _, snapshot, ok := strings.Cut(name, "/"); ok {
		return snapshot
	}
	return name
}
