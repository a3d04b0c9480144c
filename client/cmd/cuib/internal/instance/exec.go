package instance

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

type execOptions struct {
	mode             string
	tty, noTTY       bool
	env              []string
	user, group      uint32
	cwd              string
	noStdin, isShell bool
	record           bool
}

func (o *execOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false) // Flags after the instance are the program's.
	f.StringVar(&o.mode, "mode", "auto", "auto, interactive or non-interactive")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"auto", "interactive", "non-interactive"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	f.BoolVarP(&o.tty, "force-interactive", "t", false, "give the program a terminal")
	f.BoolVarP(&o.noTTY, "force-noninteractive", "T", false, "give the program no terminal")
	f.StringArrayVar(&o.env, "env", nil, "KEY=VALUE of the environment; again for more")
	f.Uint32Var(&o.user, "user", 0, "user id to run as")
	f.Uint32Var(&o.group, "group", 0, "group id to run as")
	f.StringVar(&o.cwd, "cwd", "", "directory to run in")
	f.BoolVarP(&o.noStdin, "disable-stdin", "n", false, "give the program an empty standard input")
}

func newExec(e *env) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec INSTANCE [flags] [--] PROGRAM [ARGUMENT...]",
		Short: "Run a program in an instance",
		Long: `Run a program in an instance, with the streams, the signals and the exit status
of this command. There is no shell in between: run "sh -c" for one. The program
gets a terminal if standard input and output are terminals.

With --record-output the program has no streams: the daemon keeps what it writes,
the first 64 MiB of each stream, among the instance's logs, which "cuib logs"
shows and deletes. The oldest go when there are more than 100 files or 256 MiB.`,
		Example: "  cuib exec web -- apt-get update\n  cuib exec web -- sh -c 'cd /tmp && ls'\n  tar c . | cuib exec web --cwd /srv -- tar x",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		DisableFlagsInUseLine: true,
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			rest, err := o.parseRest(e, cmd, args[1:])
			if err != nil {
				return err
			}
			if o.record {
				return e.record(cmd.Context(), o, args[0], rest)
			}
			return e.exec(cmd.Context(), o, args[0], rest)
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.record, "record-output", false, "let the daemon keep what the program writes, as logs of the instance")
	return cmd
}

// record runs a program whose output the daemon keeps.
func (e *env) record(ctx context.Context, o execOptions, instance string, command []string) error {
	if o.tty || o.mode == "interactive" {
		return errs.Invalidf("--record-output is not possible with a terminal: leave out --force-interactive and --mode interactive")
	}
	o.noTTY = true
	req, err := o.request(e, command)
	if err != nil {
		return err
	}
	op, err := e.Client().Record(ctx, instance, req)
	if err := e.Wait(ctx, op, err); err != nil {
		return err
	}
	done, err := op.Recorded(instance)
	if err != nil {
		return err
	}
	e.Say("%s\n%s", done.Stdout, done.Stderr)
	if done.Status != 0 {
		return kit.StatusError(done.Status)
	}
	return nil
}

// parseRest parses the flags between the instance and the program, and
// returns what follows them.
func (o *execOptions) parseRest(e *env, cmd *cobra.Command, args []string) ([]string, error) {
	if err := cmd.Flags().Parse(args); err != nil {
		return nil, cmd.FlagErrorFunc()(cmd, err)
	}
	if err := e.Begin(); err != nil { // The flags of all commands can be among them.
		return nil, err
	}
	args = cmd.Flags().Args()
	if len(args) == 0 && !o.isShell {
		return nil, errs.Invalidf("no program given: usage: %s", cmd.UseLine())
	}
	return args, nil
}

// shellCommand is a login shell of the user, whichever is there.
var shellCommand = []string{"su", "-l"}

func newShell(e *env) *cobra.Command {
	o := execOptions{isShell: true}
	cmd := &cobra.Command{
		Use:     "shell INSTANCE [flags]",
		Short:   "Open a login shell in an instance",
		Example: "  cuib shell web\n  echo 'uname -a' | cuib shell web",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		DisableFlagsInUseLine: true,
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			rest, err := o.parseRest(e, cmd, args[1:])
			if err != nil {
				return err
			}
			return e.exec(cmd.Context(), o, args[0], append(shellCommand, rest...))
		}),
	}
	o.flags(cmd)
	return cmd
}

// interactive tells whether the program gets a terminal.
func (o execOptions) interactive(e *env) (bool, error) {
	if o.tty && o.noTTY {
		return false, errs.Invalidf("--force-interactive and --force-noninteractive exclude each other")
	}
	switch {
	case o.tty || o.mode == "interactive":
		return true, nil
	case o.noTTY || o.mode == "non-interactive":
		return false, nil
	case o.mode == "auto":
		return !o.noStdin && kit.IsTerminal(e.In) && kit.IsTerminal(e.Out), nil
	}
	return false, errs.Invalidf("mode %q is none of auto, interactive, non-interactive", o.mode)
}

func (o execOptions) request(e *env, command []string) (api.InstanceExecPost, error) {
	interactive, err := o.interactive(e)
	if err != nil {
		return api.InstanceExecPost{}, err
	}
	vars := map[string]string{}
	if v := e.Getenv("TERM"); v != "" && interactive {
		vars["TERM"] = v
	}
	for _, kv := range o.env {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return api.InstanceExecPost{}, errs.Invalidf("environment %q is not of the form KEY=VALUE", kv)
		}
		vars[key] = value
	}
	return api.InstanceExecPost{
		Command: command, Interactive: interactive, Environment: vars, User: o.user, Group: o.group, Cwd: o.cwd,
	}, nil
}

// exec runs a program; its exit status is the command's.
func (e *env) exec(ctx context.Context, o execOptions, instance string, command []string) error {
	req, err := o.request(e, command)
	if err != nil {
		return err
	}
	x := client.Exec{InstanceExecPost: req, Stdin: e.In, Stdout: e.Out, Stderr: e.Err}
	if o.noStdin {
		x.Stdin = nil
	}
	control := make(chan api.InstanceExecControl, 16)
	x.Control = control
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if req.Interactive {
		x.Width, x.Height = e.windowSize()
		restore, err := e.rawTerminal()
		if err != nil {
			return err
		}
		defer restore()
	}
	e.forwardSignals(ctx, control, forwarded...)
	code, err := e.Client().Exec(ctx, instance, x)
	if err != nil {
		return err
	}
	if code != 0 {
		return kit.StatusError(code)
	}
	return nil
}

// rawTerminal makes the terminal pass all keys on. Without a terminal it does
// nothing.
func (e *env) rawTerminal() (restore func(), err error) {
	if !kit.IsTerminal(e.In) {
		return func() {}, nil
	}
	fd := int(e.In.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, old) }, nil
}

// windowSize returns the columns and lines of the terminal, or zeros.
func (e *env) windowSize() (width, height int) {
	width, height, err := term.GetSize(int(e.Out.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// forwarded are the signals that a program in an instance gets. SIGWINCH
// becomes a message of its own.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH}

// forwardSignals sends signals to control until ctx ends.
func (e *env) forwardSignals(ctx context.Context, control chan<- api.InstanceExecControl, which ...os.Signal) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, which...)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case s := <-signals:
				msg, ok := e.controlMessage(s)
				if !ok {
					continue
				}
				select {
				case control <- msg:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (e *env) controlMessage(s os.Signal) (api.InstanceExecControl, bool) {
	if s == unix.SIGWINCH {
		width, height := e.windowSize()
		return resizeMessage(width, height), width > 0
	}
	number, ok := s.(unix.Signal)
	return api.InstanceExecControl{Command: "signal", Signal: int(number)}, ok
}

func resizeMessage(width, height int) api.InstanceExecControl {
	return api.InstanceExecControl{
		Command: "window-resize",
		Args:    map[string]string{"width": strconv.Itoa(width), "height": strconv.Itoa(height)},
	}
}
