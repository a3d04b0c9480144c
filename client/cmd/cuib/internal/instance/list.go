package instance

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// instanceColumns are the columns that list knows by a letter.
var instanceColumns = []output.Column[api.InstanceFull]{
	{Key: 'n', Name: "NAME", Value: func(in api.InstanceFull) string { return in.Name }},
	{Key: 's', Name: "STATE", Value: func(in api.InstanceFull) string { return strings.ToUpper(in.Status) }},
	{Key: '4', Name: "IPV4", Value: func(in api.InstanceFull) string { return addresses(in, "inet") }},
	{Key: '6', Name: "IPV6", Value: func(in api.InstanceFull) string { return addresses(in, "inet6") }},
	{Key: 't', Name: "TYPE", Value: typeOf},
	{Key: 'S', Name: "SNAPSHOTS", Value: func(in api.InstanceFull) string { return kit.Count(in.Snapshots) }},
	{Key: 'a', Name: "ARCHITECTURE", Value: func(in api.InstanceFull) string { return in.Architecture }},
	{Key: 'b', Name: "STORAGE POOL", Value: poolOf},
	{Key: 'c', Name: "CREATED AT", Value: func(in api.InstanceFull) string { return kit.Date(in.CreatedAt) }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(in api.InstanceFull) string { return in.Description }},
	{Key: 'D', Name: "DISK USAGE", Value: diskUsage},
	{Key: 'e', Name: "PROJECT", Value: func(in api.InstanceFull) string { return in.Project }},
	{Key: 'l', Name: "LAST USED AT", Value: func(in api.InstanceFull) string { return kit.Date(in.LastUsedAt) }},
	{Key: 'm', Name: "MEMORY USAGE", Value: memoryUsage},
	{Key: 'M', Name: "MEMORY USAGE%", Value: memoryPercent},
	{Key: 'N', Name: "PROCESSES", Value: processes},
	{Key: 'p', Name: "PID", Value: pid},
	{Key: 'P', Name: "PROFILES", Value: func(in api.InstanceFull) string { return strings.Join(in.Profiles, "\n") }},
	{Key: 'u', Name: "CPU USAGE", Value: cpuUsage},
	{Key: 'U', Name: "STARTED AT", Value: startedAt},
	{Key: 'L', Name: "LOCATION", Value: func(in api.InstanceFull) string { return in.Location }},
	{Key: 'f', Name: "BASE IMAGE", Help: "beginning of the fingerprint of the image that it was made of", Value: func(in api.InstanceFull) string { return kit.Short(in.Config["volatile.base_image"]) }},
	{Key: 'F', Name: "BASE IMAGE", Help: "that fingerprint, whole", Value: func(in api.InstanceFull) string { return in.Config["volatile.base_image"] }},
}

// up reports whether an instance with this state runs, be it frozen or not.
func up(c api.StatusCode) bool { return c == api.Running || c == api.Ready || c == api.Frozen }

// addresses returns the addresses of a family that reach beyond the instance,
// one a line.
func addresses(in api.InstanceFull, family string) string {
	if in.State == nil || !up(in.StatusCode) {
		return ""
	}
	var out []string
	for _, name := range kit.KeysOf(in.State.Network) {
		for _, a := range in.State.Network[name].Addresses {
			if a.Family == family && a.Scope != "link" && a.Scope != "local" {
				out = append(out, fmt.Sprintf("%s (%s)", a.Address, name))
			}
		}
	}
	return strings.Join(out, "\n")
}

func typeOf(in api.InstanceFull) string {
	t := strings.ToUpper(in.Type)
	if in.Ephemeral {
		t += " (EPHEMERAL)"
	}
	return t
}

func poolOf(in api.InstanceFull) string {
	return in.ExpandedDevices[rootDevice(in.ExpandedDevices)]["pool"]
}

func diskUsage(in api.InstanceFull) string {
	if in.State == nil || in.State.Disk[rootDevice(in.ExpandedDevices)].Usage <= 0 {
		return ""
	}
	return kit.Size(in.State.Disk[rootDevice(in.ExpandedDevices)].Usage)
}

func memoryUsage(in api.InstanceFull) string {
	if in.State == nil || in.State.Memory.Usage <= 0 {
		return ""
	}
	return kit.Size(in.State.Memory.Usage)
}

func memoryPercent(in api.InstanceFull) string {
	if in.State == nil || in.State.Memory.Usage <= 0 || in.State.Memory.Total <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(in.State.Memory.Usage)/float64(in.State.Memory.Total))
}

func processes(in api.InstanceFull) string {
	if in.State == nil || in.State.Processes <= 0 {
		return ""
	}
	return strconv.FormatInt(in.State.Processes, 10)
}

func pid(in api.InstanceFull) string {
	if in.State == nil || in.State.Pid <= 0 {
		return ""
	}
	return strconv.FormatInt(in.State.Pid, 10)
}

func cpuUsage(in api.InstanceFull) string {
	if in.State == nil || in.State.CPU.Usage <= 0 {
		return ""
	}
	return fmt.Sprintf("%ds", in.State.CPU.Usage/int64(time.Second))
}

func startedAt(in api.InstanceFull) string {
	if in.State == nil {
		return ""
	}
	return kit.Date(in.State.StartedAt)
}

type listOptions struct {
	kit.ListView

	fast     bool
	projects kit.AllProjects
}

const listLong = `List instances, all or those that fit every one of the filters:

  web                       names that begin with "web"
  '^web.*1$'                names that match a regular expression
  status=running            state; also type=, architecture= and location=
  ipv4=10.0.0.0/8           an address or a network; also ipv6=
  user.owner=ann            a key of the configuration; "u.owner" is the same
  'volatile.eth0.hwaddr=10:66:.*'   values can be regular expressions too

Columns are letters, or keys as [config:|devices:]KEY[:NAME[:WIDTH]] between
commas:

`

func newList(e *env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list [FILTER...]", Aliases: []string{"ls"}, Short: "List instances",
		Long:              listLong + output.Describe(instanceColumns),
		Example:           "  cuib list\n  cuib list status=running --columns ns4,user.owner:OWNER\n  cuib list web --format json",
		ValidArgsFunction: e.Complete(kit.Instances),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.fast {
				o.Columns = "nsacPt"
			}
			kit.AddColumn(o.projects, cmd, instanceColumns, &o.ListView)
			return e.list(cmd.Context(), o, args)
		},
	}
	o.Flags(cmd, "ns46tS")
	cmd.Flags().BoolVar(&o.fast, "fast", false, "the columns nsacPt, which need no look at the instances' state")
	o.projects.Flag(cmd)
	return cmd
}

func (e *env) list(ctx context.Context, o listOptions, args []string) error {
	columns, err := instanceListColumns(o.Columns)
	if err != nil {
		return err
	}
	f, err := output.ParseFormat(o.Format)
	if err != nil {
		return err
	}
	filters, err := parseFilters(args)
	if err != nil {
		return err
	}
	if f.Name == "json" || f.Name == "yaml" {
		o.Columns = everything
	}
	all, err := e.listed(ctx, o, filters)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(in api.InstanceFull) bool { return !filters.match(in) })
	slices.SortFunc(all, func(a, b api.InstanceFull) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
	f.Room = e.Room()
	return f.Write(e.Out, output.Tabulate(columns, all))
}

// plain and lean are the columns that need no state, and those for which an
// [api.InstanceBrief] is enough.
const (
	plain = "nsatcdelLPbfF"
	lean  = "nsatcdelLP46S"

	everything = "*" // No column.
)

// fromBrief returns the instance with what is known of it.
func fromBrief(b api.InstanceBrief) api.InstanceFull {
	var in api.InstanceFull
	in.Name, in.Status, in.StatusCode, in.Architecture, in.Type = b.Name, b.Status, b.StatusCode, b.Architecture, b.Type
	in.Ephemeral, in.CreatedAt, in.LastUsedAt, in.Description = b.Ephemeral, b.CreatedAt, b.LastUsedAt, b.Description
	in.Project, in.Location, in.Profiles = b.Project, b.Location, b.Profiles
	in.Snapshots = make([]api.InstanceSnapshot, len(b.Snapshots))
	if b.State != nil {
		in.State = &api.InstanceState{Network: map[string]api.InstanceStateNetwork{}}
		for name, nic := range b.State.Network {
			in.State.Network[name] = api.InstanceStateNetwork{Addresses: nic.Addresses}
		}
	}
	return in
}

// listed returns all instances, with what the columns and the filters need.
func (e *env) listed(ctx context.Context, o listOptions, fs filters) ([]api.InstanceFull, error) {
	c, err := o.projects.Client(e.Env)
	if err != nil {
		return nil, err
	}
	stateless := !fs.needState() && consists(o.Columns, plain)
	if !fs.needConfig() && consists(o.Columns, lean) {
		get := c.InstanceBriefs
		if stateless {
			get = c.InstanceHeads
		}
		return briefly(ctx, get)
	}
	if !stateless {
		all, err := c.InstancesFull(ctx)
		if err == nil && hasLetter(o.Columns, 'D') {
			err = e.addDisks(ctx, o.projects, all)
		}
		return all, err
	}
	some, err := c.Instances(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.InstanceFull, len(some))
	for i, in := range some {
		out[i].Instance = in
	}
	return out, nil
}

func briefly(ctx context.Context, get func(context.Context) ([]api.InstanceBrief, error)) ([]api.InstanceFull, error) {
	some, err := get(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.InstanceFull, len(some))
	for i, in := range some {
		out[i] = fromBrief(in)
	}
	return out, nil
}

// addDisks adds how much the instances' disks hold, which lists leave out: the
// daemon has to look through all files for it.
func (e *env) addDisks(ctx context.Context, projects kit.AllProjects, all []api.InstanceFull) error {
	for i, in := range all {
		state, err := projects.Of(e.Env, in.Project).InstanceState(ctx, in.Name)
		switch {
		case errs.Is(err, errs.NotFound): // Deleted meanwhile.
		case err != nil:
			return err
		case in.State != nil:
			all[i].State.Disk = state.Disk
		}
	}
	return nil
}

// hasLetter tells whether a column is among columns.
func hasLetter(columns string, letter rune) bool {
	for part := range strings.SplitSeq(columns, ",") {
		if !strings.ContainsAny(part, ".:") && strings.ContainsRune(part, letter) {
			return true
		}
	}
	return false
}

// consists tells whether columns are only letters of a set.
func consists(columns, set string) bool {
	return strings.Trim(columns, set+",") == ""
}

// instanceListColumns parses the columns of list: letters, and keys of the
// configuration or of devices.
func instanceListColumns(spec string) ([]output.Column[api.InstanceFull], error) {
	var out []output.Column[api.InstanceFull]
	for part := range strings.SplitSeq(spec, ",") {
		if strings.ContainsAny(part, ".:") {
			c, err := keyColumn(part)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
			continue
		}
		if part == "" {
			continue
		}
		some, err := output.Select(instanceColumns, part)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	if len(out) == 0 {
		return output.Select(instanceColumns, "")
	}
	return out, nil
}
