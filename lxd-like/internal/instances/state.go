package instances

import (
	"bufio"
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Names returns the names of all instances, in order.
func (s *Service) Names(ctx context.Context, in string) ([]string, error) {
	var names []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		names = []string{}
		rows, err := db.InstanceHeads(ctx, tx, in)
		for _, row := range rows {
			if row.Status == db.Ready {
				names = append(names, row.Name)
			}
		}
		return err
	})
	return names, err
}

// List returns the instances of a project by name, or of all if in is empty. It
// asks the kernel nothing of those that do not run.
func (s *Service) List(ctx context.Context, in string) ([]api.Instance, error) {
	all, _, err := s.allOf(ctx, in)
	if err != nil {
		return nil, err
	}
	out := make([]api.Instance, 0, len(all))
	for _, one := range all {
		out = append(out, s.describe(one))
	}
	return out, nil
}

// statesAtOnce bounds how many instances a list looks at together.
// The kernel does most of the work, on the processor that asks.
var statesAtOnce = max(2, hostCPUs())

// ListFull is [Service.List] with their state and snapshots.
func (s *Service) ListFull(ctx context.Context, in string) ([]api.InstanceFull, error) {
	all, snaps, err := s.allOf(ctx, in)
	if err != nil {
		return nil, err
	}
	out := make([]api.InstanceFull, len(all))
	var used map[place]int64
	var g errgroup.Group
	g.SetLimit(statesAtOnce)
	g.Go(func() error { used = s.measure(ctx, all); return nil })
	for i, one := range all {
		g.Go(func() error {
			var err error
			out[i], err = s.full(one, snaps)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, one := range all {
		out[i].State.Disk = rootUsage(one, used)
	}
	return out, nil
}

// belongings are what belongs to instances and is read with them.
type belongings struct {
	snapshots map[string][]db.Snapshot
	profiles  map[string]db.Profile
}

// all reads all instances that are whole, in one transaction.
func (s *Service) all(ctx context.Context) ([]*instance, belongings, error) { return s.allOf(ctx, "") }

// allOf is all for the instances of a project.
func (s *Service) allOf(ctx context.Context, in string) ([]*instance, belongings, error) {
	rows, b, err := s.everythingOf(ctx, in)
	out := make([]*instance, 0, len(rows))
	for _, row := range rows {
		if row.Status == db.Ready {
			out = append(out, newInstance(row, choose(b.profiles, row.Profiles)))
		}
	}
	return out, b, err
}

// everything reads all instances, whole or not.
func (s *Service) everything(ctx context.Context) ([]db.Instance, belongings, error) {
	return s.everythingOf(ctx, "")
}

// everythingOf is everything for the instances of a project.
func (s *Service) everythingOf(ctx context.Context, in string) ([]db.Instance, belongings, error) {
	var rows []db.Instance
	var b belongings
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if rows, err = db.InstancesOf(ctx, tx, in); err != nil {
			return err
		}
		profs, err := db.Profiles(ctx, tx)
		if err != nil {
			return err
		}
		b.profiles = profilesByName(profs)
		b.snapshots, err = db.AllSnapshots(ctx, tx, in)
		return err
	})
	return rows, b, err
}

func profilesByName(all []db.Profile) map[string]db.Profile {
	out := make(map[string]db.Profile, len(all))
	for _, p := range all {
		out[p.Name] = p
	}
	return out
}

// choose returns the named profiles in order. One that a snapshot remembers
// can be gone.
func choose(all map[string]db.Profile, names []string) []db.Profile {
	out := make([]db.Profile, 0, len(names))
	for _, name := range names {
		if p, ok := all[name]; ok {
			out = append(out, p)
		}
	}
	return out
}

// Get returns an instance.
func (s *Service) Get(ctx context.Context, name string) (api.Instance, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return api.Instance{}, err
	}
	return s.describe(in), nil
}

// GetFull returns an instance with its state and snapshots.
func (s *Service) GetFull(ctx context.Context, name string) (api.InstanceFull, error) {
	var in *instance
	b := belongings{snapshots: map[string][]db.Snapshot{}}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if in, err = loadTx(ctx, tx, name); err != nil {
			return err
		}
		if b.snapshots[name], err = db.Snapshots(ctx, tx, name); err != nil {
			return err
		}
		profs, err := db.Profiles(ctx, tx)
		b.profiles = profilesByName(profs)
		return err
	})
	if err != nil {
		return api.InstanceFull{}, err
	}
	full, err := s.full(in, b)
	if err == nil {
		full.State.Disk = s.disks(ctx, in)
	}
	return full, err
}

// State returns what an instance is doing.
func (s *Service) State(ctx context.Context, name string) (api.InstanceState, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return api.InstanceState{}, err
	}
	st, err := s.state(in)
	st.Disk = s.disks(ctx, in)
	return st, err
}

func (s *Service) full(in *instance, b belongings) (api.InstanceFull, error) {
	full := api.InstanceFull{Instance: s.describe(in), Backups: []any{}, Snapshots: []api.InstanceSnapshot{}}
	for _, snap := range whole(b.snapshots[in.Name]) {
		full.Snapshots = append(full.Snapshots, apiSnapshot(snap, b.profiles))
	}
	st, err := s.state(in)
	full.State = &st
	return full, err
}

// describe is the instance on the wire.
func (s *Service) describe(in *instance) api.Instance {
	code := s.code(in.Name)
	return api.Instance{
		InstancePut: api.InstancePut{
			Architecture: in.Architecture, Config: apiConfig(in.Config), Devices: apiDevices(in.Devices),
			Ephemeral: in.Ephemeral, Profiles: orEmpty(in.Profiles), Stateful: in.Stateful, Description: in.Description,
		},
		Name: in.Name, Status: code.String(), StatusCode: code, CreatedAt: in.Created, LastUsedAt: in.LastUsed,
		ExpandedConfig: apiConfig(in.expanded.Options), ExpandedDevices: apiDevices(in.expanded.Devices),
		Location: "none", Type: "container", Project: "default",
	}
}

// code says whether an instance runs. It asks the kernel only of those that
// are known to.
func (s *Service) code(name string) api.StatusCode {
	_, code := s.look(name)
	return code
}

// look is code with what runs.
func (s *Service) look(name string) (runtime.Running, api.StatusCode) {
	if s.index.get(name) == nil {
		return runtime.Running{}, api.Stopped
	}
	run, err := s.Runtime.Get(name)
	switch {
	case err != nil:
		return run, api.Stopped
	case run.Frozen:
		return run, api.Frozen
	case s.index.isReady(name, run.PID):
		return run, api.Ready
	}
	return run, api.Running
}

// state is what the kernel says of an instance. One that ends while it is
// asked is stopped, and of one that boots again there is less to say.
func (s *Service) state(in *instance) (api.InstanceState, error) {
	run, code := s.look(in.Name)
	st := api.InstanceState{Status: code.String(), StatusCode: code, Disk: map[string]api.InstanceStateDisk{}}
	if code == api.Stopped {
		return st, nil
	}
	err := s.fillState(&st, in, run)
	if errs.Is(err, errs.NotFound) {
		return api.InstanceState{Status: api.Stopped.String(), StatusCode: api.Stopped, Disk: st.Disk}, nil
	}
	if errs.Is(err, errs.Unavailable) {
		err = nil
	}
	return st, err
}

func (s *Service) fillState(st *api.InstanceState, in *instance, run runtime.Running) error {
	usage, err := s.Runtime.Usage(in.Name)
	if err != nil {
		return err
	}
	st.Pid, st.StartedAt, st.Processes = int64(run.PID), run.StartedAt, usage.Processes
	st.CPU = api.InstanceStateCPU{Usage: int64(usage.CPU), AllocatedTime: s.allocated(in)}
	st.Memory = api.InstanceStateMemory{
		Usage: usage.Memory, UsagePeak: usage.MemoryPeak, Total: usage.MemoryMax,
		SwapUsage: usage.Swap, SwapUsagePeak: usage.SwapPeak,
	}
	st.Pressure = apiPressure(usage.Pressure)
	st.IO = &api.InstanceStateIO{BytesRead: usage.BytesRead, BytesWritten: usage.BytesWritten}
	links, err := s.Runtime.Interfaces(in.Name)
	if err != nil {
		return err
	}
	st.Network = make(map[string]api.InstanceStateNetwork, len(links))
	for name, link := range links {
		st.Network[name] = apiInterface(link)
	}
	s.fillPlugged(st, in.Name)
	st.OSInfo = s.osInfo(in.Name)
	return nil
}

// allocated is how much time of the processors an instance can have in each
// second, in nanoseconds.
func (s *Service) allocated(in *instance) int64 {
	cpus := int64(hostCPUs())
	limits, err := s.limits(in)
	if err != nil {
		return cpus * 1e9
	}
	if limits.CPUQuota > 0 && limits.CPUPeriod > 0 {
		return int64(limits.CPUQuota) * 1e9 / int64(limits.CPUPeriod)
	}
	if n := countCPUs(limits.CPUs); n > 0 {
		cpus = n
	}
	return cpus * 1e9
}

// countCPUs counts the processors in a list such as "0-1,3".
func countCPUs(list string) int64 {
	var n int64
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseInt(first, 10, 64)
		b, err2 := strconv.ParseInt(last, 10, 64)
		if err == nil && err2 == nil && b >= a {
			n += b - a + 1
		}
	}
	return n
}

func apiInterface(link runtime.Interface) api.InstanceStateNetwork {
	state := "down"
	if link.Up {
		state = "up"
	}
	out := api.InstanceStateNetwork{
		Addresses: []api.InstanceStateNetworkAddress{}, Hwaddr: link.MAC, HostName: link.HostName, Mtu: link.MTU,
		State: state, Type: link.Type,
		Counters: api.NetworkCounters{
			BytesReceived: link.Counters.BytesIn, BytesSent: link.Counters.BytesOut,
			PacketsReceived: link.Counters.PacketsIn, PacketsSent: link.Counters.PacketsOut,
			ErrorsReceived: link.Counters.ErrorsIn, ErrorsSent: link.Counters.ErrorsOut,
			PacketsDroppedInbound: link.Counters.DroppedIn, PacketsDroppedOutbound: link.Counters.DroppedOut,
		},
	}
	addresses := slices.Clone(link.Addresses)
	slices.SortStableFunc(addresses, func(a, b netip.Prefix) int { return cmp.Compare(rank(a), rank(b)) })
	for _, a := range addresses {
		out.Addresses = append(out.Addresses, apiAddress(a))
	}
	return out
}

func rank(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return 1
}

func apiAddress(p netip.Prefix) api.InstanceStateNetworkAddress {
	out := api.InstanceStateNetworkAddress{Family: "inet", Address: p.Addr().String(), Netmask: strconv.Itoa(p.Bits()), Scope: "global"}
	if p.Addr().Is6() {
		out.Family = "inet6"
	}
	switch {
	case p.Addr().IsLoopback():
		out.Scope = "local"
	case p.Addr().IsLinkLocalUnicast():
		out.Scope = "link"
	}
	return out
}

// osPatience is how long a guest's files are read for its state. With file
// systems of its own a guest can make that last as long as it likes.
const osPatience = 200 * time.Millisecond

// osInfo is what the guest says of its system; nil if that takes too long. It is
// not to be trusted, and nothing depends on it. However often it is asked for,
// one goroutine at most waits for a guest.
func (s *Service) osInfo(name string) *api.InstanceStateOSInfo {
	select {
	case got := <-s.systems.DoChan(name, func() (any, error) { return s.readOSInfo(name), nil }):
		info, _ := got.Val.(*api.InstanceStateOSInfo) // It is one.
		return info
	case <-time.After(osPatience):
		return nil
	}
}

func (s *Service) readOSInfo(name string) *api.InstanceStateOSInfo {
	dir, err := s.Runtime.Root(name)
	if err != nil {
		return nil
	}
	defer dir.Close()

	release := readBelow(dir, "etc/os-release")
	if release == "" {
		release = readBelow(dir, "usr/lib/os-release")
	}
	info := &api.InstanceStateOSInfo{KernelVersion: kernelVersion()}
	lines := bufio.NewScanner(strings.NewReader(release))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "NAME":
			info.OS = value
		case "VERSION_ID":
			info.OSVersion = value
		}
	}
	info.Hostname = strings.TrimSpace(readBelow(dir, "etc/hostname"))
	info.FQDN = info.Hostname
	return info
}
