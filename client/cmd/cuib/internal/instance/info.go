package instance

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func newInfo(e *env) *cobra.Command {
	var log, hardware bool
	cmd := &cobra.Command{
		Use:     "info [INSTANCE]",
		Short:   "Show the state of an instance, or the daemon and its host",
		Example: "  cuib info\n  cuib info --resources\n  cuib info web\n  cuib info web --show-log",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			if hardware {
				return e.hardware(cmd.Context(), args)
			}
			if len(args) == 0 || args[0] == "" {
				s, _, err := e.Client().Server(cmd.Context())
				return kit.ObjectView{Format: "yaml"}.Show(e.Env, s, err)
			}
			if err := e.info(cmd.Context(), args[0]); err != nil || !log {
				return err
			}
			return e.showLog(cmd.Context(), args[0])
		}),
	}
	cmd.Flags().BoolVar(&log, "show-log", false, "show the instance's log too")
	cmd.Flags().BoolVar(&hardware, "resources", false, "show the hardware of the daemon's host")
	return cmd
}

// hardware shows what the daemon's host has.
func (e *env) hardware(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] != "" {
		return errs.Invalidf("--resources is of the daemon's host: got instance %q, want none", args[0])
	}
	r, err := e.Client().Resources(ctx)
	return kit.ObjectView{Format: "yaml"}.Show(e.Env, r, err)
}

func (e *env) info(ctx context.Context, name string) error {
	in, err := e.Client().InstanceSummary(ctx, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "Name: %s\n", in.Name)
	if in.Description != "" {
		fmt.Fprintf(e.Out, "Description: %s\n", output.Plain(in.Description))
	}
	fmt.Fprintf(e.Out, "Status: %s\nType: %s\nArchitecture: %s\n", strings.ToUpper(in.Status), in.Type, in.Architecture)
	if in.State != nil && in.State.Pid > 0 {
		fmt.Fprintf(e.Out, "PID: %d\n", in.State.Pid)
	}
	fmt.Fprintf(e.Out, "Profiles: %s\n", strings.Join(in.Profiles, ", "))
	for _, t := range []struct{ what, when string }{
		{"Created", kit.Date(in.CreatedAt)}, {"Last used", kit.Date(in.LastUsedAt)}, {"Started", startedAt(api.InstanceFull{State: in.State})},
	} {
		if t.when != "" {
			fmt.Fprintf(e.Out, "%s: %s\n", t.what, t.when)
		}
	}
	if in.State != nil {
		writeResources(e.Out, *in.State)
	}
	return writeSnapshots(e.Out, in.Snapshots)
}

func writeResources(w io.Writer, s api.InstanceState) {
	if s.Pid > 0 {
		fmt.Fprintf(w, "\nResources:\n  Processes: %d\n", s.Processes)
		fmt.Fprintf(w, "  CPU usage: %.2fs\n", float64(s.CPU.Usage)/1e9)
		fmt.Fprintf(w, "  Memory usage: %s\n", kit.Size(s.Memory.Usage))
	}
	if s.Memory.UsagePeak > 0 {
		fmt.Fprintf(w, "  Memory peak: %s\n", kit.Size(s.Memory.UsagePeak))
	}
	if s.Pid > 0 && s.Memory.Total > 0 {
		fmt.Fprintf(w, "  Memory limit: %s\n", kit.Size(s.Memory.Total))
	}
	writePressure(w, s.Pressure)
	if len(s.Disk) > 0 {
		fmt.Fprint(w, "\nDisk usage:\n")
	}
	for _, name := range kit.KeysOf(s.Disk) {
		fmt.Fprintf(w, "  %s: %s", name, kit.Size(s.Disk[name].Usage))
		if s.Disk[name].Total > 0 {
			fmt.Fprintf(w, " of %s", kit.Size(s.Disk[name].Total))
		}
		fmt.Fprintln(w)
	}
	if len(s.Network) > 0 {
		fmt.Fprint(w, "\nNetwork:\n")
	}
	for _, name := range kit.KeysOf(s.Network) {
		writeInterface(w, name, s.Network[name])
	}
}

// writePressure says how long programs waited lately, some and all of them.
func writePressure(w io.Writer, all map[string]api.InstanceStatePressure) {
	if len(all) == 0 {
		return
	}
	fmt.Fprint(w, "\nPressure (some and all programs waited, in percent of the last 10s, 60s, 300s):\n")
	for _, what := range kit.KeysOf(all) {
		s, f := all[what].Some, all[what].Full
		fmt.Fprintf(w, "  %s: some %.2f %.2f %.2f, all %.2f %.2f %.2f\n", output.Plain(what), s.Avg10, s.Avg60, s.Avg300, f.Avg10, f.Avg60, f.Avg300)
	}
}

func writeInterface(w io.Writer, name string, n api.InstanceStateNetwork) {
	fmt.Fprintf(w, "  %s:\n    State: %s\n", output.Plain(name), strings.ToUpper(n.State))
	if n.HostName != "" {
		fmt.Fprintf(w, "    Host interface: %s\n", n.HostName)
	}
	if n.Hwaddr != "" {
		fmt.Fprintf(w, "    MAC address: %s\n", n.Hwaddr)
	}
	fmt.Fprintf(w, "    MTU: %d\n    Received: %s\n    Sent: %s\n", n.Mtu, kit.Size(n.Counters.BytesReceived), kit.Size(n.Counters.BytesSent))
	for _, a := range n.Addresses {
		fmt.Fprintf(w, "    %s: %s/%s (%s)\n", a.Family, a.Address, a.Netmask, a.Scope)
	}
}

func writeSnapshots(w io.Writer, summaries []api.SnapshotSummary) error {
	if len(summaries) == 0 {
		return nil
	}
	fmt.Fprint(w, "\nSnapshots:\n")
	columns, err := output.Select(snapshotColumns, "nTEs")
	if err != nil {
		return err
	}
	return output.Format{Name: "table", Header: true}.Write(w, output.Tabulate(columns, fromSummaries(summaries)))
}

// showLog writes the logs of the runtime, and the console's.
func (e *env) showLog(ctx context.Context, name string) error {
	logs, err := e.Client().Logs(ctx, name)
	if err != nil {
		return err
	}
	for _, file := range logs {
		fmt.Fprintf(e.Out, "\nLog %s:\n", file)
		if err := e.copyLog(e.Client().Log(ctx, name, file)); err != nil {
			return err
		}
	}
	return nil
}
