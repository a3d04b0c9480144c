package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/admission"
	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/cdi"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/guestapi"
	machine "github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/peering"
	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/lxd-like/internal/publish"
	"github.com/cuib/cuib/lxd-like/internal/recovery"
	"github.com/cuib/cuib/lxd-like/internal/repository"
	"github.com/cuib/cuib/lxd-like/internal/rest"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/integrate"
	"github.com/cuib/cuib/networks/macvlan"
	"github.com/cuib/cuib/networks/physical"
	"github.com/cuib/cuib/networks/resolved"
	"github.com/cuib/cuib/networks/vxlan"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/dir"
	"github.com/cuib/cuib/storage/overlay"
	"github.com/cuib/cuib/storage/zfs"
)

// How long the end of the daemon waits: for requests to be answered, and for
// operations to end when they are told to.
const (
	requestGrace   = 5 * time.Second
	operationGrace = 30 * time.Second

	// shutdownGrace is how long operations have to end by themselves when the
	// host shuts down.
	shutdownGrace = time.Minute
)

// daemon is all that is open.
type daemon struct {
	db           *db.DB
	projects     *projects.Service
	events       *events.Hub
	ops          *ops.Manager
	pools        *pools.Service
	nets         *nets.Service
	published    *publish.Service
	admission    *admission.Service
	peering      *peering.Service
	zones        *zones.Service
	acls         *acls.Service
	resolver     *resolved.Registrar
	images       *images.Service
	volumes      *volumes.Service
	backups      *backups.Service
	instances    *instances.Service
	containers   *runtime.Runtime
	proxies      *proxies.Service
	guests       *guestapi.Server
	down         atomic.Bool // All that ran was ended, and the daemon is to end.
	recovery     *recovery.Service
	repositories *repository.Service
	lxcfs        *lxcfs.Keeper
	warnings     *warnings.Service
	log          *slog.Logger
	trim         trimmer
}

// run runs the daemon until ctx ends. Instances go on without it.
func run(ctx context.Context, log *slog.Logger, cfg config) error {
	lock, err := lockDir(cfg.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if cfg.owner, err = ownerOf(lock); err != nil {
		return err
	}

	// What is under way when the daemon is told to end may come to its end.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	d, err := open(ctx, base, log, cfg)
	if err != nil {
		return err
	}
	defer d.close(base)
	if err := d.recover(ctx); err != nil {
		return err
	}
	start, err := d.instances.ToStart(ctx)
	if err != nil {
		return err
	}
	l, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	err = d.serve(ctx, l, environment(d.db, storageTypes()), start)
	cancel()
	return errors.Join(err, waitFor(d.ops.Wait, operationGrace))
}

func storageTypes() map[string]storage.Type {
	return map[string]storage.Type{"btrfs": btrfs.Type(), "dir": dir.Type(), "overlay": overlay.Type(), "zfs": zfs.Type()}
}

func networkDrivers() map[string]networks.Driver {
	return map[string]networks.Driver{"bridge": bridge.Driver{}, "macvlan": macvlan.Driver{}, "physical": physical.Driver{}, "vxlan": &vxlan.Driver{}}
}

// open opens all that the daemon has, in the order in which each needs what
// came before.
func open(ctx, base context.Context, log *slog.Logger, cfg config) (*daemon, error) {
	d := &daemon{events: &events.Hub{}, log: log}
	d.ops = ops.NewManager(base, d.publish)
	d.ops.Log = log.With("component", "ops")
	ids, err := allocator()
	if err != nil {
		return nil, err
	}
	if err := d.openProjects(ctx, cfg.dir); err != nil {
		return nil, err
	}
	d.warnings = &warnings.Service{DB: d.db, Events: d.events, Log: log.With("component", "warnings")}
	d.pools = &pools.Service{
		DB: d.db, Dir: cfg.dir, Types: storageTypes(), Owner: cfg.owner, Events: d.events, Log: log.With("component", "pools"), Warnings: d.warnings,
	}
	d.openNetworks(cfg.dir)
	d.images = &images.Service{
		DB: d.db, Projects: d.projects, Dir: cfg.dir, Pools: d.pools, Events: d.events, Log: log.With("component", "images"),
		Algorithm: func(ctx context.Context) string { return d.projects.RequestConfig(ctx, projectkeys.ImageCompression) },
	}
	d.volumes = &volumes.Service{
		DB: d.db, Projects: d.projects, Dir: cfg.dir, Pools: d.pools, Types: storageTypes(), Events: d.events, Log: log.With("component", "volumes"), Warnings: d.warnings,
	}
	if d.guests, err = guestapi.New(filepath.Join(cfg.dir, "guests")); err != nil {
		return nil, err
	}
	containers := d.newRuntime(cfg)
	d.nets.Restored, d.nets.Inside = containers.Reconnect, d.inside
	d.instances = &instances.Service{
		DB: d.db, Projects: d.projects, Rules: d.projects, Dir: cfg.dir, Pools: d.pools, Nets: d.nets, Images: d.images, Volumes: d.volumes,
		Runtime: containers,
		Guests:  d.guests, Host: machine.Local(), CDI: cdi.Dirs(),
		Events: d.events, IDs: ids, Logger: log.With("component", "instances"), Warnings: d.warnings,
		CheckACLs: d.acls.CheckNames, Renames: []instances.Rename{d.acls.InstanceRenamed},
	}
	d.guests.Instances, d.guests.Images, d.guests.Log = d.instances, d.images, log.With("component", "guests")
	d.guests.Volumes = d.instances.GuestVolumes()
	d.proxies = d.newProxies(cfg)
	d.instances.Proxies, d.instances.Plugins = d.proxies, containers
	d.nets.Leading = d.proxies.Leading
	d.instances.TPMs = d.newTPMs(base, cfg.dir)
	d.images.Instances, d.volumes.Instances = d.instances, d.instances // Each needs the other.
	d.backups = &backups.Service{
		DB: d.db, Instances: d.instances.Backed(), Volumes: d.volumes.Backed(), Events: d.events,
		Algorithm: d.backupAlgorithm, Log: log.With("component", "backups"),
	}
	d.recovery = &recovery.Service{
		DB: d.db, Projects: d.projects, Pools: d.pools, Instances: d.instances, Volumes: d.volumes, Nets: d.netDocs(),
		Events: d.events, Log: log.With("component", "recovery"),
	}
	d.pools.Appears = []func(context.Context, string) error{d.volumes.RecoverPool}
	d.pools.Appeared = []func(context.Context, string) error{d.instances.PoolAppeared, d.recovery.PoolAppeared}
	if d.repositories, err = d.newRepositories(cfg.dir); err != nil {
		return nil, err
	}
	return d, nil
}

// openProjects opens the database, and what has a say in what is written there.
func (d *daemon) openProjects(ctx context.Context, dir string) (err error) {
	if d.db, err = db.OpenFile(ctx, filepath.Join(dir, "database", "cuib.db")); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	d.projects = &projects.Service{DB: d.db, Events: d.events, Log: d.log.With("component", "projects"), Remove: d.deleteObject, Keep: d.keepObject}
	d.db.Admitter = d.projects
	return d.projects.Open(ctx)
}

// openNetworks makes the services of networks, and of what networks have.
func (d *daemon) openNetworks(dir string) {
	d.nets = &nets.Service{
		DB: d.db, Dir: dir, Drivers: networkDrivers(), Host: host.Kernel{}, Events: d.events, Log: d.log.With("component", "nets"), Warnings: d.warnings,
	}
	d.resolver = &resolved.Registrar{Log: d.log.With("component", "resolved")}
	d.nets.Resolver = d.resolver
	d.nets.Opener = integrate.New(dir)
	d.zones = &zones.Service{DB: d.db, Nets: d.nets, Events: d.events, Log: d.log.With("component", "zones"), Warnings: d.warnings}
	d.nets.Checks = append(d.nets.Checks, d.zones.CheckNetwork)
	d.acls = d.newACLs(dir)
	d.published = d.newPublished()
	d.peering = &peering.Service{DB: d.db, Nets: d.nets, Events: d.events}
	d.nets.Parts, d.nets.Renames = append(d.nets.Parts, d.peering.Part), append(d.nets.Renames, d.peering.Renamed, d.acls.NetworkRenamed)
	d.nets.Peering = d.peering.All
}

// newPublished makes the service of forwards and load balancers, which tells
// that of networks what there is.
func (d *daemon) newPublished() *publish.Service {
	d.admission = &admission.Service{Host: host.Kernel{}, Log: d.log.With("component", "admission")}
	s := &publish.Service{
		DB: d.db, Nets: d.nets, Events: d.events, Log: d.log.With("component", "publish"),
		Taken:    func(e networks.Published) string { return d.proxies.Takes(e) },
		Listener: host.Kernel{}.Listener, Admit: d.admission.Admit,
	}
	d.nets.Parts = append(d.nets.Parts, s.Part)
	d.nets.Checks = append(d.nets.Checks, s.Check)
	return s
}

// newACLs makes the service of network ACLs, which tells that of networks what
// they have.
func (d *daemon) newACLs(dir string) *acls.Service {
	s := &acls.Service{DB: d.db, Dir: dir, Nets: d.nets, Events: d.events, Logger: d.log.With("component", "acls")}
	d.nets.Parts, d.nets.Checks = append(d.nets.Parts, s.Part), append(d.nets.Checks, s.Check)
	return s
}

// newRuntime makes what runs containers, and the lxcfs that they see.
func (d *daemon) newRuntime(cfg config) *runtime.Runtime {
	d.lxcfs = &lxcfs.Keeper{
		Host: lxcfs.HostDir, Dir: filepath.Join(cfg.dir, "lxcfs"), Program: cfg.lxcfs, Log: d.log.With("component", "lxcfs"), Warnings: d.warnings,
	}
	d.containers = &runtime.Runtime{
		Dir: filepath.Join(cfg.dir, "run"), Shim: cfg.shim, Log: d.log.With("component", "runtime"), LXCFS: d.lxcfs.Served,
		CNI: &cni.Plugins{Dir: filepath.Join(cfg.dir, "cni"), Dirs: settings{d.db}.pluginDirs},
	}
	d.lxcfs.Changed = d.containers.ShowLXCFS
	d.acls.Ports = d.containers.ACLs()
	return d.containers
}

// netDocs returns what describes all of the networks.
func (d *daemon) netDocs() *netdocs.Service {
	return &netdocs.Service{Nets: d.nets, ACLs: d.acls, Zones: d.zones, Publish: d.published, Peering: d.peering}
}

// newRepositories makes the service of backup repositories, which has all
// others.
func (d *daemon) newRepositories(dir string) (*repository.Service, error) {
	host, err := os.Hostname()
	return &repository.Service{
		DB: d.db, Projects: d.projects, Dir: dir, Host: host, Instances: d.instances, Volumes: d.volumes, Pools: d.pools, Nets: d.netDocs(), Images: d.images,
		Config: settings{d.db}, Ops: d.ops, Events: d.events, Log: d.log.With("component", "repositories"), Warnings: d.warnings,
	}, err
}

// newTPMs makes the service of TPMs. One that ends by itself is replaced until
// ctx ends.
func (d *daemon) newTPMs(ctx context.Context, dir string) *tpm.Service {
	load := func(ctx context.Context, module string) error { return machine.LoadModules(ctx, []string{module}) }
	return &tpm.Service{
		Dir: filepath.Join(dir, "run", ".tpms"), Devices: tpm.Proxy{Load: load}, Log: d.log.With("component", "tpms"),
		Lost: func(of tpm.Owner) { d.instances.TPMLost(ctx, of) },
	}
}

// allocator gives out the host's ids that nobody else has.
func allocator() (*idmap.Allocator, error) {
	users, err := subIDs("/etc/subuid")
	if err != nil {
		return nil, err
	}
	groups, err := subIDs("/etc/subgid")
	if err != nil {
		return nil, err
	}
	limits, reserved := idmap.HostRanges(users, groups)
	if limits, err = withinOwn(limits); err != nil {
		return nil, err
	}
	return idmap.NewAllocator(limits, reserved), nil
}

// withinOwn leaves out ids that we do not have ourselves, in a container.
func withinOwn(limits []idmap.Range) ([]idmap.Range, error) {
	var own [2][]idmap.Range
	for i, path := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if own[i], err = idmap.ReadOwn(bytes.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return idmap.Within(limits, own[0], own[1]), nil
}

func subIDs(path string) ([]idmap.SubID, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return idmap.ReadSubIDs(f)
}

// recover puts right what the last daemon left. What concerns one object is
// logged and does not keep the daemon from its start.
func (d *daemon) recover(ctx context.Context) error {
	for _, step := range []struct {
		name string
		fn   func(context.Context) error
	}{
		{"storage pools", d.pools.Recover},
		{"network ACLs", d.acls.Recover},
		{"networks", d.nets.Recover},
		{"images", d.images.Recover},
		{"backups", d.backups.Recover},
		{"volumes", d.volumes.Recover},
		{"instances", d.instances.Recover},
		{"mounts of volumes", d.volumes.Settle},
	} {
		began := time.Now()
		if err := step.fn(ctx); err != nil {
			return fmt.Errorf("recover %s: %w", step.name, err)
		}
		d.log.DebugContext(ctx, "recovered", "what", step.name, "took", time.Since(began))
	}
	return nil
}

// shutdown ends the instances, and waits for the operations under way.
func (d *daemon) shutdown(ctx context.Context, req rest.ShutdownRequest) error {
	d.log.InfoContext(ctx, "shutting down", "force", req.Force)
	d.ops.Close()
	err := d.instances.Shutdown(ctx, instances.ShutdownOptions(req))
	err = errors.Join(err, d.lxcfs.Stop())
	d.down.Store(err == nil)
	if req.Force {
		return err
	}
	if werr := waitFor(d.ops.Wait, shutdownGrace); werr != nil {
		d.log.WarnContext(ctx, "operations are cut short", "err", werr)
	}
	return err
}

// newAPI makes what answers requests. exit ends the daemon.
func (d *daemon) newAPI(env environmentFunc, exit func()) *rest.Server {
	return &rest.Server{
		Projects: d.projects, Instances: d.instances, Images: d.images, Pools: d.pools, Volumes: d.volumes, Backups: d.backups, Nets: d.nets, Zones: d.zones, ACLs: d.acls, AddressSets: d.acls.Sets(), Publish: d.published, Peering: d.peering, Repositories: d.repositories,
		Recovery: d.recovery, Warnings: d.warnings, Config: settings{d.db},
		Environment: env, Resources: resources, Ops: d.ops, Events: d.events, Log: d.log.With("component", "rest"),
		Shutdown: d.shutdown, Exit: exit,
		Follow: map[string]func(context.Context, string) error{serverkeys.DNSAddress: d.zones.Listen},
	}
}

// answer answers requests until ctx ends, and those that are under way then.
func (d *daemon) answer(ctx context.Context, l net.Listener, api *rest.Server) error {
	server := &http.Server{
		Handler: d.trim.handler(api.Handler()), ConnContext: rest.ConnContext, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		api.Drain()
		timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestGrace)
		defer cancel()
		if err := server.Shutdown(timed); err != nil {
			return server.Close() // They were told.
		}
		return nil
	})
	return g.Wait()
}

// serve answers requests, starts the instances that are to run, and does what
// is to be done by the clock, until ctx ends.
func (d *daemon) serve(ctx context.Context, l net.Listener, env environmentFunc, start []string) error {
	ctx, exit := context.WithCancel(ctx)
	defer exit()
	told := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.answer(ctx, l, d.newAPI(env, exit)) })
	g.Go(func() error { return d.nets.Run(ctx) })
	g.Go(func() error { return d.runPublished(ctx) })
	g.Go(func() error { return d.serveZones(ctx) })
	g.Go(func() error { return d.resolver.Run(ctx) })
	g.Go(func() error { return d.pools.Run(ctx) })
	g.Go(func() error { return d.recovery.Run(ctx) })
	g.Go(func() error { return d.proxies.Run(ctx) })
	g.Go(func() error { return d.containers.KeepFilters(ctx) })
	g.Go(func() error { return d.containers.KeepNames(ctx) })
	g.Go(func() error { return d.acls.Run(ctx) })
	g.Go(func() error { return d.guests.Run(ctx) })
	g.Go(func() error { return d.warnings.Run(ctx) })
	g.Go(func() error { return d.lxcfs.Run(ctx) })
	g.Go(func() error { return d.autostart(ctx, start) })
	g.Go(func() error { return d.instances.StartWaiting(ctx) })
	g.Go(func() error { return d.instances.Hotplug(ctx) })
	g.Go(func() error { return d.clock(ctx) })
	d.trim.soon()
	d.log.InfoContext(ctx, "serving", "address", l.Addr().String())
	if err := notify(ctx, "READY=1"); err != nil {
		d.log.WarnContext(ctx, "cannot tell systemd that the daemon is ready", "err", err)
	}
	err := g.Wait()
	if told.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // One of them was told to end before it had begun.
	}
	if d.down.Load() { // Nothing runs, and nobody repairs networks any more.
		err = errors.Join(err, d.nets.Stop(context.WithoutCancel(ctx)))
	}
	d.log.InfoContext(context.WithoutCancel(ctx), "ending")
	return err
}

// serveZones serves the zones of DNS, where the server's configuration says.
func (d *daemon) serveZones(ctx context.Context) error {
	config, err := settings{d.db}.Config(ctx)
	if err != nil {
		return err
	}
	return d.zones.Run(ctx, config[serverkeys.DNSAddress])
}

// autostart starts the instances that are to run.
func (d *daemon) autostart(ctx context.Context, names []string) error {
	if err := d.instances.Autostart(ctx, names); err != nil && ctx.Err() == nil {
		d.log.ErrorContext(ctx, "cannot start instances", "err", err)
	}
	return nil
}

// clock has each service do what is due by the clock, every minute. Those that
// take longer miss a tick, and keep no others waiting.
func (d *daemon) clock(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, tick := range d.ticks() {
		g.Go(func() error {
			d.tick(ctx, name, tick)
			return nil
		})
	}
	return g.Wait()
}

// ticks are what services do by the clock, by the services' names.
func (d *daemon) ticks() map[string]func(ctx context.Context, now time.Time) error {
	return map[string]func(context.Context, time.Time) error{
		"instances":    d.instances.Tick,
		"volumes":      d.volumes.Tick,
		"backups":      d.backups.Tick,
		"repositories": d.repositories.Tick,
		"warnings":     d.warnings.Tick,
		"db":           func(context.Context, time.Time) error { return d.db.Restock() },
	}
}

// tick calls fn now, for what became due while there was no daemon, and every
// minute until ctx ends.
func (d *daemon) tick(ctx context.Context, name string, fn func(context.Context, time.Time) error) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		if err := fn(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.ErrorContext(ctx, "cannot do what is due by the clock", "component", name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (d *daemon) close(ctx context.Context) {
	if err := d.db.Close(); err != nil {
		d.log.ErrorContext(ctx, "cannot close the database", "err", err)
	}
}

// waitFor calls fn and waits for it, for so long.
func waitFor(fn func(), limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("operations did not end within %s: the next start takes them back", limit)
	}
}
