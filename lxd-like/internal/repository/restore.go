package repository

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// A restoring is an instance or a volume that is to be made of a backup.
type restoring struct {
	repo     db.Repository
	snap     snapshot
	source   source
	document api.Document
	project  string // That it is to be in.
	name     string // Another name; empty for that of the source.
	pool     string // Another pool; empty for that of the document.
}

// Restore makes an instance or a volume of a backup, or all that there is.
func (s *Service) Restore(ctx context.Context, name string, req api.RepositoryRestorePost) (ops.Job, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if err := Look(); err != nil {
		return ops.Job{}, err
	}
	if req.All {
		return s.restoreAllJob(ctx, r, req)
	}
	w, err := s.restoring(ctx, r, req)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.checkRestore(ctx, w); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Restoring a backup", Cancelable: true, Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error { return s.restore(ctx, w, op) },
	}, nil
}

// restoring finds what is to be restored and reads its document.
func (s *Service) restoring(ctx context.Context, r db.Repository, req api.RepositoryRestorePost) (restoring, error) {
	w := restoring{repo: r, name: req.Name, pool: req.Pool, project: project.From(ctx)}
	var err error
	if w.snap, err = s.wanted(ctx, r, req); err != nil {
		return w, err
	}
	return w, s.readDocument(ctx, &w)
}

// readDocument reads the document of w.snap.
func (s *Service) readDocument(ctx context.Context, w *restoring) error {
	var err error
	if w.source, err = parseSource(w.snap.tag(tagSource)); err != nil {
		return fmt.Errorf("backup %s: %w", w.snap.ID[:8], err)
	}
	if w.source == (source{}) {
		return errs.Invalidf("backup %s is of the host: it is restored with all", w.snap.ID[:8])
	}
	text, err := s.small(ctx, w.repo, w.snap.ID, documentName)
	if err != nil {
		return err
	}
	if w.document, err = api.ParseDocument(text); err != nil {
		return errs.Invalidf("backup %s: %s: %w", w.snap.ID[:8], documentName, err)
	}
	if err := scope.Bring(ctx, s.Projects, w.project, &w.document); err != nil {
		return fmt.Errorf("backup %s: %s: %w", w.snap.ID[:8], documentName, err)
	}
	// A backup holds what was there when it was made, and no snapshots.
	w.document.Snapshots, w.document.VolumeSnapshots = nil, nil
	return nil
}

// wanted returns the backup that a request is about.
func (s *Service) wanted(ctx context.Context, r db.Repository, req api.RepositoryRestorePost) (snapshot, error) {
	const last = "latest"
	if req.ID != "" && req.ID != last {
		return s.find(ctx, r, req.ID)
	}
	if req.From == "" {
		return snapshot{}, errs.Invalidf("field \"id\" is %q and field \"from\" is empty: want the id of a backup, or a source in \"from\"", req.ID)
	}
	src, err := parseSource(req.From)
	if err != nil {
		return snapshot{}, err
	}
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return snapshot{}, err
	}
	host := orDefault(req.Host, s.Host)
	if snap, ok := latest(all, src, host); ok {
		return snap, nil
	}
	err = errs.NotFoundf("repository %q has no backup of %s of host %q", r.Name, src, host)
	if others := hostsOf(all, req.From); len(others) > 0 {
		err = errs.NotFoundf("%w: there are some of host %s", err, strings.Join(others, ", "))
	}
	return snapshot{}, err
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// checkRestore reports why w cannot be restored.
func (s *Service) checkRestore(ctx context.Context, w restoring) error {
	if w.source.pool != "" {
		return s.Volumes.CheckReinstate(ctx, s.volumeOf(w))
	}
	return s.Instances.CheckReinstate(ctx, s.instanceOf(w))
}

func (s *Service) instanceOf(w restoring) instances.Reinstatement {
	return instances.Reinstatement{Document: w.document, Name: w.name, Pool: w.pool}
}

func (s *Service) volumeOf(w restoring) volumes.Reinstatement {
	return volumes.Reinstatement{Document: w.document, Name: w.name, Pool: w.pool}
}

// restore makes an instance or a volume of a backup.
func (s *Service) restore(ctx context.Context, w restoring, op *ops.Op) error {
	leave, err := s.gates.share(ctx, w.repo.Name)
	if err != nil {
		return err
	}
	defer leave()
	fill := func(ctx context.Context, d storage.Driver, v storage.Volume) error {
		return s.fill(ctx, d, v, filling{w, op})
	}
	if w.source.pool != "" {
		r := s.volumeOf(w)
		r.Fill = fill
		return s.Volumes.Reinstate(ctx, r, op)
	}
	r := s.instanceOf(w)
	r.Fill = fill
	return s.Instances.Reinstate(ctx, r, op)
}

// A filling is how a volume gets its files.
type filling struct {
	restoring

	op *ops.Op
}

// fill makes a volume with the files of a backup.
func (s *Service) fill(ctx context.Context, d storage.Driver, v storage.Volume, f filling) (err error) {
	if err := d.Create(ctx, v); err != nil {
		return err
	}
	dir, err := d.Mount(ctx, v, nil) // As they are stored.
	if err != nil {
		return err
	}
	defer func() {
		if uerr := d.Unmount(context.WithoutCancel(ctx), v); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}()
	if err := s.unpack(ctx, dir, f); err != nil {
		return err
	}
	return flush(dir)
}

// flush puts on the disk what was written below dir: nothing that is said to
// be restored is lost with the power.
func flush(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // It was only read.
	return unix.Syncfs(fd)
}

// unpack runs restic, which fills dir.
func (s *Service) unpack(ctx context.Context, dir string, f filling) error {
	point, err := s.stagePoint()
	if err != nil {
		return err
	}
	st := &stage{state: s.Dir, point: point, name: url.PathEscape(f.source.String()), volume: dir, write: true}
	var bad []string
	line := func(line string) {
		// One line for each file, of which there are many.
		if reason, ok := strings.CutPrefix(line, "ignoring error for "); ok && len(bad) < 3 {
			bad = append(bad, reason)
		}
	}
	stop := s.watch(ctx, dir, f)
	err = s.restic(ctx, f.repo, call{
		args: []string{"restore", "--quiet", f.snap.ID, "--target", ".", "--include", "/" + dataName}, line: line, stage: st,
	})
	stop()
	if err != nil && len(bad) > 0 {
		return faulty(f, bad, err)
	}
	if err != nil {
		return err
	}
	sparse, err := s.sparseOf(ctx, f.restoring)
	if err != nil || len(sparse) == 0 {
		return err
	}
	return dig(ctx, dir, sparse)
}

// faulty words what restic could not restore.
func faulty(f filling, bad []string, err error) error {
	what := strings.Join(bad, "; ")
	kind := errs.KindOf(err)
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if strings.Contains(what, full.Error()) {
			return errs.Newf(errs.Unavailable, "there is not enough room for what backup %s has: %s", f.snap.ID[:8], bad[0])
		}
	}
	return errs.Newf(kind, "some files of backup %s could not be restored: %s", f.snap.ID[:8], what)
}

// sparseOf returns the list of sparse files of a backup.
func (s *Service) sparseOf(ctx context.Context, w restoring) ([]byte, error) {
	nodes, err := s.nodes(ctx, w.repo, w.snap.ID, "/"+sparseName)
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	return s.small(ctx, w.repo, w.snap.ID, sparseName)
}

// beat is how often somebody who waits is told how far it is.
const beat = time.Second

// watch shows how much room of the volume is taken, as restic does not say how
// far it is, until it is stopped.
func (s *Service) watch(ctx context.Context, dir string, f filling) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	total, _ := strconv.ParseInt(f.snap.tag(tagSize), 10, 64) // 0 where it is not known.
	before := taken(dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			now := max(taken(dir)-before, 0)
			f.op.SetMetadata("restore_progress", fmt.Sprintf("%s: %s of %s", f.source, units.FormatBytes(min(now, total)), units.FormatBytes(total)))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// taken returns how many bytes of the file system of dir are in use.
func taken(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize //nolint:gosec // Disks are smaller.
}
