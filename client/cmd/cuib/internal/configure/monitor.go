package configure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// levels are those of log messages, the least first.
var levels = []string{"debug", "info", "warning", "error"}

type monitorOptions struct {
	types  []string
	format string
	pretty bool
	level  string

	projects kit.AllProjects
}

func newMonitor(e *env) *cobra.Command {
	var o monitorOptions
	cmd := &cobra.Command{
		Use: "monitor", Short: "Show what happens, as it happens",
		Example: "  cuib monitor --type lifecycle --pretty\n  cuib monitor --type operation --type lifecycle --format json",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.None),
		RunE: kit.Nameless(func(cmd *cobra.Command) error { return e.monitor(cmd.Context(), o) }),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.types, "type", "t", nil, "operation, lifecycle, logging or network-acl; again for more, none for all")
	f.StringVarP(&o.format, "format", "f", "yaml", "yaml, json (one event a line) or pretty")
	f.BoolVar(&o.pretty, "pretty", false, "the same as --format pretty")
	f.StringVar(&o.level, "loglevel", "", "least level of log messages: debug, info, warning or error")
	o.projects.Flag(cmd)
	return cmd
}

func (e *env) monitor(ctx context.Context, o monitorOptions) error {
	if o.pretty {
		o.format = "pretty"
	}
	write, err := e.eventWriter(o.format)
	if err != nil {
		return err
	}
	if o.level != "" && !slices.Contains(levels, o.level) {
		return errs.Invalidf("log level %q is none of %s", o.level, strings.Join(levels, ", "))
	}
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	c, err := o.projects.Client(e.Env)
	if err != nil {
		return err
	}
	events, err := c.Events(ctx, o.types...)
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		ev, err := events.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // That is how it ends.
		case errors.Is(err, io.EOF):
			return errs.Newf(errs.Unavailable, "the daemon has ended the stream of events")
		case err != nil:
			return err
		}
		if o.wants(ev) {
			if err := write(ev); err != nil {
				return err
			}
		}
	}
}

// wants tells whether an event is no log message below the level.
func (o monitorOptions) wants(ev api.Event) bool {
	if ev.Type != "logging" || o.level == "" {
		return true
	}
	var l api.EventLogging
	if err := json.Unmarshal(ev.Metadata, &l); err != nil {
		return true
	}
	return slices.Index(levels, strings.ToLower(l.Level)) >= slices.Index(levels, o.level)
}

func (e *env) eventWriter(format string) (func(api.Event) error, error) {
	switch format {
	case "json":
		return func(ev api.Event) error { return output.JSON(e.Out, ev) }, nil
	case "pretty":
		return func(ev api.Event) error {
			_, err := fmt.Fprintln(e.Out, output.Plain(prettyEvent(ev)))
			return err
		}, nil
	case "yaml":
		return func(ev api.Event) error {
			if err := output.YAML(e.Out, ev); err != nil {
				return err
			}
			_, err := fmt.Fprint(e.Out, "\n\n")
			return err
		}, nil
	}
	return nil, errs.Invalidf("format %q is none of yaml, json, pretty", format)
}

// prettyEvent returns an event as one line.
func prettyEvent(ev api.Event) string {
	at := ev.Timestamp.Local().Format(time.TimeOnly)
	switch ev.Type {
	case "lifecycle":
		var l api.EventLifecycle
		if json.Unmarshal(ev.Metadata, &l) == nil {
			return fmt.Sprintf("%s %s %s%s", at, l.Action, kit.Reference(l.Source), details(l.Context))
		}
	case "operation":
		var o api.Operation
		if json.Unmarshal(ev.Metadata, &o) == nil {
			line := fmt.Sprintf("%s operation %s: %s: %s", at, o.ID, o.Description, o.Status)
			if o.Err != "" {
				line += ": " + o.Err
			}
			return line
		}
	case "logging":
		var l api.EventLogging
		if json.Unmarshal(ev.Metadata, &l) == nil {
			return fmt.Sprintf("%s %s %s%s", at, strings.ToUpper(l.Level), l.Message, details(l.Context))
		}
	}
	return fmt.Sprintf("%s %s %s", at, ev.Type, ev.Metadata)
}

func details[V any](m map[string]V) string {
	var b strings.Builder
	for _, k := range kit.KeysOf(m) {
		fmt.Fprintf(&b, " %s=%v", k, m[k])
	}
	return b.String()
}
