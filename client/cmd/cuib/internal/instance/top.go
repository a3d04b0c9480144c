package instance

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A load is what an instance uses. Rates are those of the time since it was
// looked at before, in bytes a second.
type load struct {
	Name        string  `json:"name"`
	Status      string  `json:"status"`
	CPU         float64 `json:"cpu_percent"` // Of one processor.
	CPUTime     float64 `json:"cpu_seconds"`
	Memory      int64   `json:"memory_bytes"`
	MemoryTotal int64   `json:"memory_total_bytes"`
	Swap        int64   `json:"swap_bytes"`
	Processes   int64   `json:"processes"`
	Disk        int64   `json:"disk_bytes"`
	Read        float64 `json:"disk_read_rate"`
	Written     float64 `json:"disk_write_rate"`
	Received    float64 `json:"network_receive_rate"`
	Sent        float64 `json:"network_send_rate"`

	project string
	state   api.InstanceState
}

// topColumns are the columns of top. Their order by a column is descending,
// but for names.
var topColumns = []output.Column[load]{
	{Key: 'n', Name: "NAME", Value: func(l load) string { return l.Name }},
	{Key: 'e', Name: "PROJECT", Value: func(l load) string { return l.project }},
	{Key: 's', Name: "STATE", Value: func(l load) string { return strings.ToUpper(l.Status) }},
	{Key: 'c', Name: "CPU%", Value: func(l load) string { return fmt.Sprintf("%.1f", l.CPU) }},
	{Key: 'u', Name: "CPU TIME", Value: func(l load) string { return fmt.Sprintf("%.2fs", l.CPUTime) }},
	{Key: 'm', Name: "MEMORY", Value: func(l load) string { return kit.Size(l.Memory) }},
	{Key: 'M', Name: "MEMORY%", Value: func(l load) string { return fmt.Sprintf("%.1f", l.memoryPercent()) }},
	{Key: 'S', Name: "SWAP", Value: func(l load) string { return kit.Size(l.Swap) }},
	{Key: 'N', Name: "PROCESSES", Value: func(l load) string { return strconv.FormatInt(l.Processes, 10) }},
	{Key: 'D', Name: "DISK", Value: func(l load) string { return sizeIfAny(l.Disk) }},
	{Key: 'r', Name: "READ/S", Value: func(l load) string { return kit.Size(int64(l.Read)) }},
	{Key: 'w', Name: "WRITTEN/S", Value: func(l load) string { return kit.Size(int64(l.Written)) }},
	{Key: 'i', Name: "RECEIVED/S", Value: func(l load) string { return kit.Size(int64(l.Received)) }},
	{Key: 'o', Name: "SENT/S", Value: func(l load) string { return kit.Size(int64(l.Sent)) }},
}

// topOrders are what can be sorted by.
var topOrders = map[string]func(load) float64{
	"cpu": func(l load) float64 { return l.CPU }, "cpu-time": func(l load) float64 { return l.CPUTime },
	"memory": func(l load) float64 { return float64(l.Memory) }, "memory-percent": load.memoryPercent,
	"swap": func(l load) float64 { return float64(l.Swap) }, "processes": func(l load) float64 { return float64(l.Processes) },
	"disk": func(l load) float64 { return float64(l.Disk) },
	"read": func(l load) float64 { return l.Read }, "written": func(l load) float64 { return l.Written },
	"received": func(l load) float64 { return l.Received }, "sent": func(l load) float64 { return l.Sent },
	"name": func(load) float64 { return 0 },
}

func (l load) memoryPercent() float64 {
	if l.MemoryTotal <= 0 {
		return 0
	}
	return 100 * float64(l.Memory) / float64(l.MemoryTotal)
}

func sizeIfAny(n int64) string {
	if n <= 0 {
		return ""
	}
	return kit.Size(n)
}

type topOptions struct {
	kit.ListView

	sort    string
	reverse bool
	once    bool
	refresh float64

	projects kit.AllProjects
}

const topLong = `Show what running instances use, again and again. Rates are those since the last
look. On a terminal the keys c, m, n, p, d, i and o sort by CPU, memory, name,
processes, disk, received and sent; r reverses the order, and q quits.

With --once there is one table, of the time that --refresh says.

Columns are letters:

`

func newTop(e *env) *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use: "top [FILTER...]", Short: "Show what running instances use, as it changes",
		Long:              topLong + output.Describe(topColumns) + "\n\nFilters are those of \"cuib list\".",
		Example:           "  cuib top\n  cuib top --sort memory\n  cuib top --once --format json web",
		ValidArgsFunction: e.Complete(kit.Instances),
		RunE: func(cmd *cobra.Command, args []string) error {
			kit.AddColumn(o.projects, cmd, topColumns, &o.ListView)
			return e.top(cmd.Context(), o, args)
		},
	}
	o.Flags(cmd, "ncmNDrwio")
	f := cmd.Flags()
	f.StringVar(&o.sort, "sort", "cpu", "what to sort by: "+strings.Join(kit.KeysOf(topOrders), ", "))
	f.BoolVarP(&o.reverse, "reverse", "r", false, "the least first")
	f.BoolVar(&o.once, "once", false, "look once, and end")
	f.Float64Var(&o.refresh, "refresh", 2, "seconds between two looks")
	o.projects.Flag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(kit.KeysOf(topOrders), cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	return cmd
}

// minRefresh is how often the daemon is asked at most.
const minRefresh = 0.2

func (o topOptions) check() error {
	if _, ok := topOrders[o.sort]; !ok {
		return errs.Invalidf("--sort is %q: want one of %s", o.sort, strings.Join(kit.KeysOf(topOrders), ", "))
	}
	if math.IsNaN(o.refresh) || o.refresh < minRefresh || o.refresh > 3600 {
		return errs.Invalidf("--refresh is %g: want seconds from %g to 3600", o.refresh, minRefresh)
	}
	if _, err := output.Select(topColumns, o.Columns); err != nil {
		return err
	}
	_, err := output.ParseFormat(o.Format)
	return err
}

func (e *env) top(ctx context.Context, o topOptions, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	fs, err := parseFilters(args)
	if err != nil {
		return err
	}
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	c, err := o.projects.Client(e.Env)
	if err != nil {
		return err
	}
	s := &sampler{client: c, filters: fs}
	if _, err := s.look(ctx); err != nil {
		return err
	}
	live := !o.once && (o.Format == "table" || o.Format == "compact") && kit.IsTerminal(e.Out)
	var keys <-chan byte
	if live {
		restore, err := e.rawTerminal()
		if err != nil {
			return err
		}
		defer restore()
		keys = e.keys(ctx)
	}
	return e.show(ctx, o, s, keys)
}

// show shows what is seen at each look, until it was shown once, the user has
// enough, or ctx ends.
func (e *env) show(ctx context.Context, o topOptions, s *sampler, keys <-chan byte) error {
	ticker := time.NewTicker(time.Duration(o.refresh * float64(time.Second)))
	defer ticker.Stop()
	var seen []load
	for {
		select {
		case <-ticker.C:
			var err error
			if seen, err = s.look(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case key := <-keys:
			if !o.press(key) {
				return nil
			}
		case <-ctx.Done():
			return nil // The user has seen enough.
		}
		if seen == nil {
			continue
		}
		o.order(seen)
		paint := e.write
		if keys != nil {
			paint = e.paint
		}
		if err := paint(o, seen); err != nil || o.once {
			return err
		}
	}
}

// press does what a key is for, and tells whether to go on.
func (o *topOptions) press(key byte) bool {
	switch key {
	case 'q', 'Q', 3: // Ctrl+c, which a raw terminal makes no signal of.
		return false
	case 'r':
		o.reverse = !o.reverse
	default:
		by := map[byte]string{'c': "cpu", 'm': "memory", 'n': "name", 'p': "processes", 'd': "disk", 'i': "received", 'o': "sent"}[key]
		if by != "" {
			o.sort = by
		}
	}
	return true
}

// order sorts what was seen.
func (o topOptions) order(seen []load) {
	by := topOrders[o.sort]
	slices.SortFunc(seen, func(a, b load) int {
		c := cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Name, b.Name))
		if o.reverse {
			return -c
		}
		return c
	})
}

// write writes a table below the one before.
func (e *env) write(o topOptions, seen []load) error {
	return kit.Show(e.Env, o.ListView, topColumns, seen)
}

// paint writes a table on a terminal, in place of the one before and no larger
// than the terminal is.
func (e *env) paint(o topOptions, seen []load) error {
	columns, err := output.Select(topColumns, o.Columns)
	if err != nil {
		return err
	}
	var sum load
	for _, l := range seen {
		sum.CPU, sum.Memory, sum.Processes = sum.CPU+l.CPU, sum.Memory+l.Memory, sum.Processes+l.Processes
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d running, %.1f%% CPU, %s memory, %d processes; by %s\n\n", len(seen), sum.CPU, kit.Size(sum.Memory), sum.Processes, o.sort)
	if err := (output.Format{Name: "compact", Header: true}).Write(&text, output.Tabulate(columns, seen)); err != nil {
		return err
	}
	width, height := e.windowSize()
	_, err = fmt.Fprint(e.Out, fit(text.String(), width, height))
	return err
}

// fit returns what shows a text on an empty screen of a size that the terminal
// has: what is beyond is left out.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height > 1 && len(lines) > height-1 {
		lines = lines[:height-1]
	}
	var out strings.Builder
	out.WriteString("\x1b[H\x1b[2J")
	for _, l := range lines {
		if r := []rune(l); width > 0 && len(r) > width {
			l = string(r[:width])
		}
		out.WriteString(l + "\r\n")
	}
	return out.String()
}

// keys are those that the user presses.
func (e *env) keys(ctx context.Context) <-chan byte {
	out := make(chan byte)
	go func() {
		b := make([]byte, 1)
		for {
			if n, err := e.In.Read(b); n == 0 || err != nil {
				return
			}
			select {
			case out <- b[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// A sampler looks at the running instances and remembers what it saw.
type sampler struct {
	client  *client.Client
	filters filters
	before  map[string]load // By what [load.key] says.
	at      time.Time
}

// look returns what the instances use now.
func (s *sampler) look(ctx context.Context) ([]load, error) {
	all, err := s.client.InstancesFull(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := []load{}
	for _, in := range all {
		if in.State == nil || in.State.Pid == 0 || !s.filters.match(in) {
			continue
		}
		l := newLoad(in)
		if old, ok := s.before[l.key()]; ok && old.state.Pid == l.state.Pid {
			l.rate(old, now.Sub(s.at))
		}
		out = append(out, l)
	}
	s.before, s.at = make(map[string]load, len(out)), now
	for _, l := range out {
		s.before[l.key()] = l
	}
	return out, nil
}

// key is what tells an instance from all others.
func (l load) key() string { return l.project + "/" + l.Name }

func newLoad(in api.InstanceFull) load {
	st := *in.State
	return load{
		Name: in.Name, Status: in.Status, CPUTime: float64(st.CPU.Usage) / 1e9, Memory: st.Memory.Usage,
		MemoryTotal: st.Memory.Total, Swap: st.Memory.SwapUsage, Processes: st.Processes,
		Disk: st.Disk[rootDevice(in.ExpandedDevices)].Usage, project: in.Project, state: st,
	}
}

// rate fills in the rates since an instance was looked at before.
func (l *load) rate(old load, took time.Duration) {
	per := func(now, before int64) float64 { return max(0, float64(now-before)) / max(took.Seconds(), 1e-3) }
	l.CPU = per(l.state.CPU.Usage, old.state.CPU.Usage) / 1e7
	if now, before := l.state.IO, old.state.IO; now != nil && before != nil {
		l.Read, l.Written = per(now.BytesRead, before.BytesRead), per(now.BytesWritten, before.BytesWritten)
	}
	for name, nic := range l.state.Network {
		if nic.Type == "loopback" {
			continue
		}
		before := old.state.Network[name].Counters
		l.Received += per(nic.Counters.BytesReceived, before.BytesReceived)
		l.Sent += per(nic.Counters.BytesSent, before.BytesSent)
	}
}
