package instance

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

type logOptions struct {
	follow           bool
	since, until     string
	lines            int
	console, journal bool
	units            []string
	file, delete     string
	list             bool
}

const logsLong = `Show what an instance has logged: its journal, if it runs and has systemd's, else
what it wrote to its console since it was started.

Times are as journalctl takes them, such as "2026-01-31 12:00", yesterday or
09:30, or how long ago it was, such as 10m or 1h30m. The console knows no times.

With --follow the last 10 lines are shown, unless --lines says otherwise, and
then what is written, until the instance stops.

There are files too, which --list lists: logs of what runs the instance, and what
programs wrote that were run with "cuib exec --record-output".`

func newLogs(e *env) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use: "logs INSTANCE", Short: "Show the logs of an instance", Long: logsLong,
		Example: "  cuib logs web\n  cuib logs web --follow --unit nginx\n  cuib logs web --since 10m\n  cuib logs web --console -n 50\n  cuib logs web --file lxc.log",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("lines") && o.lines < 1 {
				return errs.Invalidf("--lines is %d: want 1 or more", o.lines)
			}
			return e.logs(cmd.Context(), o, args[0])
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what is written")
	f.StringVar(&o.since, "since", "", "only what was written since then")
	f.StringVar(&o.until, "until", "", "only what was written until then")
	f.IntVarP(&o.lines, "lines", "n", 0, "only the last lines, so many")
	f.BoolVar(&o.console, "console", false, "what was written to the console")
	f.BoolVar(&o.journal, "journal", false, "the journal, and an error if there is none")
	f.StringArrayVarP(&o.units, "unit", "u", nil, "only what this unit of systemd wrote; again for more")
	f.BoolVar(&o.list, "list", false, "list the files that there are")
	f.StringVar(&o.file, "file", "", "show this file")
	f.StringVar(&o.delete, "delete", "", "delete this file")
	cmd.MarkFlagsMutuallyExclusive("console", "journal", "list", "file", "delete")
	for _, flag := range []string{"file", "delete"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, e.completeLogFile) // The flags exist.
	}
	return cmd
}

// completeLogFile completes files of the instance that was named before.
func (e *env) completeLogFile(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return e.Complete(func(ctx context.Context, _ *kit.Env, _ []string) ([]string, error) {
		if len(args) == 0 {
			return nil, nil
		}
		return e.logFiles(ctx, args[0])
	})(cmd, nil, typed)
}

// aboutFile tells whether the options are about files.
func (o logOptions) aboutFile() bool { return o.list || o.file != "" || o.delete != "" }

// aboutJournal tells whether the options only make sense for a journal.
func (o logOptions) aboutJournal() bool {
	return o.journal || o.since != "" || o.until != "" || len(o.units) > 0
}

func (o logOptions) check() error {
	switch {
	case o.aboutFile() && (o.aboutJournal() || o.follow || o.lines > 0):
		return errs.Invalidf("--list, --file and --delete are about whole files: leave out --follow, --lines, --since, --until and --unit")
	case o.console && o.aboutJournal():
		return errs.Invalidf("--since, --until and --unit are for the journal: a console knows neither times nor units")
	}
	return nil
}

func (e *env) logs(ctx context.Context, o logOptions, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.aboutFile() {
		return e.logFile(ctx, o, name)
	}
	if o.follow && o.lines == 0 {
		o.lines = followed
	}
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	if !o.console {
		done, err := e.showJournal(ctx, o, name)
		if done || err != nil {
			return err
		}
	}
	return e.copyLog(e.Client().ConsoleLog(ctx, name, client.ConsoleLog{Lines: o.lines, Follow: o.follow}))
}

// logFile lists, shows or deletes files.
func (e *env) logFile(ctx context.Context, o logOptions, name string) error {
	switch {
	case o.file != "":
		return e.copyLog(e.Client().Log(ctx, name, o.file))
	case o.delete != "":
		return e.Client().DeleteLog(ctx, name, o.delete)
	}
	return e.listLogs(ctx, name)
}

// followed is how many lines are shown of what was there when a log is
// followed, as tail and journalctl have it.
const followed = 10

// logFiles are the names of all files.
func (e *env) logFiles(ctx context.Context, name string) ([]string, error) {
	files, err := e.Client().Logs(ctx, name)
	if err != nil {
		return nil, err
	}
	recorded, err := e.Client().Outputs(ctx, name)
	return append(files, recorded...), err
}

func (e *env) listLogs(ctx context.Context, name string) error {
	files, err := e.logFiles(ctx, name)
	for _, f := range files {
		fmt.Fprintln(e.Out, f)
	}
	return err
}

// plainOut is the standard output. What a guest wrote can be orders for a
// terminal, which does not get them.
func (e *env) plainOut() io.Writer {
	if kit.IsTerminal(e.Out) {
		return output.PlainWriter(e.Out)
	}
	return e.Out
}

// copyLog shows a log, if it could be opened.
func (e *env) copyLog(r io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(e.plainOut(), r)
	return err
}

// askJournal runs journalctl. It ends with noJournal where there is none.
const (
	askJournal = `[ -d /run/systemd/journal ] && command -v journalctl >/dev/null || exit 97
exec journalctl --no-pager --quiet "$@"`
	noJournal = 97
)

// showJournal shows the journal of an instance and tells whether it has one.
// That it has none is an error if the options are about one.
func (e *env) showJournal(ctx context.Context, o logOptions, name string) (bool, error) {
	must := o.aboutJournal()
	x := client.Exec{
		InstanceExecPost: api.InstanceExecPost{Command: append([]string{"sh", "-c", askJournal, "journal"}, o.journalArgs()...)},
		Stdout:           e.plainOut(), Stderr: e.Err,
	}
	if kit.IsTerminal(e.Err) {
		x.Stderr = output.PlainWriter(e.Err)
	}
	status, err := e.Client().Exec(ctx, name, x)
	switch {
	case errs.Is(err, errs.Conflict) && must:
		return false, errs.Conflictf("%w: its journal can be read while it runs, and what it wrote to its console with --console", err)
	case errs.Is(err, errs.Conflict), status == noJournal && !must:
		return false, nil
	case err != nil:
		return false, err
	case status == noJournal:
		return false, errs.NotFoundf("instance %q has no journal of systemd: --console shows what it wrote to its console", name)
	case status != 0:
		return true, kit.StatusError(1) // It has said why.
	}
	return true, nil
}

func (o logOptions) journalArgs() []string {
	var out []string
	if o.follow {
		out = append(out, "--follow")
	}
	if o.lines > 0 {
		out = append(out, "--lines="+strconv.Itoa(o.lines))
	}
	if o.since != "" {
		out = append(out, "--since="+journalTime(o.since))
	}
	if o.until != "" {
		out = append(out, "--until="+journalTime(o.until))
	}
	for _, u := range o.units {
		out = append(out, "--unit="+u)
	}
	return out
}

// journalTime is a time as journalctl takes it.
func journalTime(text string) string {
	if ago, err := time.ParseDuration(text); err == nil {
		return fmt.Sprintf("-%ds", int64(ago.Seconds()))
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return "@" + strconv.FormatInt(t.Unix(), 10)
	}
	return text
}
