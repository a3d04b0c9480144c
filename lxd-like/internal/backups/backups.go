// Package backups keeps the backups of instances and custom volumes that
// clients ask for, and gives them as archives.
//
// A backup is a hidden snapshot and a record, and nothing that takes room of
// its own on the drivers that have snapshots. The archive is written while a
// client reads it. Of the snapshots that users made, it has those that were
// there when it was made and still are.
package backups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Owner is what a backup is of.
type Owner = db.BackupOwner

// A Keeper keeps what backups are made of: instances, or custom volumes.
type Keeper interface {
	// Document describes what there is, without its hidden snapshots.
	Document(ctx context.Context, o Owner) (api.Document, error)
	// Describe writes a document beside the files of an instance, where the
	// peers look for it in a stream of the driver's; one that is nil it
	// takes away.
	Describe(ctx context.Context, o Owner, text []byte) error
	// Hide makes a hidden snapshot, whose record gets the status: one that is
	// pending goes at the next start of the daemon.
	Hide(ctx context.Context, o Owner, snapshot string, status db.Status) error
	// Unhide deletes it. It does nothing if there is none.
	Unhide(ctx context.Context, o Owner, snapshot string) error
	// Visit mounts a snapshot until leave is called.
	Visit(ctx context.Context, o Owner, snapshot string) (dir string, leave func(), err error)
	// Volume returns where the files are.
	Volume(ctx context.Context, o Owner) (storage.Driver, storage.Volume, error)
}

// A Service keeps backups.
type Service struct {
	DB        *db.DB
	Instances Keeper
	Volumes   Keeper
	Events    *events.Hub
	Log       *slog.Logger

	// Algorithm is the compression of backups that ask for none.
	Algorithm func(ctx context.Context) (string, error)
}

// A Request is what a client wants a backup to be.
type Request struct {
	Name        string // Made up if it is empty.
	Expires     time.Time
	Only        bool // Without snapshots.
	Optimized   bool // As the storage driver's streams.
	Compression string
}

func (s *Service) keeper(o Owner) Keeper {
	if o.Instance != "" {
		return s.Instances
	}
	return s.Volumes
}

// List returns the backups of an owner, oldest first. Its pool may be away.
func (s *Service) List(ctx context.Context, o Owner) ([]db.Backup, error) {
	var all []db.Backup
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if o.Instance != "" {
			_, err = db.GetInstance(ctx, tx, o.Instance)
		} else {
			_, err = db.GetVolume(ctx, tx, o.Volume)
		}
		if err != nil {
			return err
		}
		all, err = db.Backups(ctx, tx, o)
		return err
	})
	return slices.DeleteFunc(all, func(b db.Backup) bool { return b.Status != db.Ready }), err
}

// Get returns a backup.
func (s *Service) Get(ctx context.Context, o Owner, name string) (db.Backup, error) {
	b, err := s.getAny(ctx, o, name)
	if err == nil && b.Status != db.Ready {
		err = errs.NotFoundf("backup %q of %q not found: it is being created or deleted", name, o)
	}
	return b, err
}

func (s *Service) getAny(ctx context.Context, o Owner, name string) (b db.Backup, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		b, err = db.GetBackup(ctx, tx, o, name)
		return err
	})
	return b, err
}

// Create checks a request for a backup.
func (s *Service) Create(ctx context.Context, o Owner, req Request) (ops.Job, error) {
	b, err := s.draft(ctx, o, req)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.chooseName(ctx, &b); err != nil {
		return ops.Job{}, err
	}
	job := s.job("Backing up", o, b.Name)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		if err := s.create(ctx, &b); err != nil {
			return fmt.Errorf("back up %q: %w", o, err)
		}
		return nil
	}
	return job, nil
}

// draft checks a request. Nothing of it is written. Where there is no
// optimized format the backup is a plain one, as it is for the peers: who asks
// for all that a host has need not know what is in which pool.
func (s *Service) draft(ctx context.Context, o Owner, req Request) (db.Backup, error) {
	b := db.Backup{Owner: o, Name: req.Name, Status: db.Pending, Expires: req.Expires}
	if err := s.allowed(ctx, o); err != nil {
		return b, err
	}
	b.Options = db.BackupOptions{
		Hidden: storage.NewHidden("backup"), Only: req.Only, Compression: req.Compression,
	}
	if b.Options.Compression == "" {
		algorithm, err := s.Algorithm(ctx)
		if err != nil {
			return b, err
		}
		b.Options.Compression = algorithm
	}
	if _, err := archive.ParseCompression(b.Options.Compression); err != nil {
		return b, err
	}
	d, _, err := s.keeper(o).Volume(ctx, o)
	if err != nil {
		return b, err
	}
	_, streams := d.(storage.Streamer)
	b.Options.Optimized = req.Optimized && streams
	return b, nil
}

// allowed reports that backups cannot be made in the owner's project.
func (s *Service) allowed(ctx context.Context, o Owner) error {
	if o.Instance != "" {
		return s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfBackups, Key: o.Instance})
	}
	return s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfVolumeBackups, Pool: o.Volume.Pool, Key: o.Volume.Name})
}

// chooseName makes up a name, or checks that it is free.
func (s *Service) chooseName(ctx context.Context, b *db.Backup) error {
	var all []db.Backup
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.Backups(ctx, tx, b.Owner)
		return err
	})
	if err != nil {
		return err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(all, func(b db.Backup) bool { return b.Name == name })
	}
	for i := 0; b.Name == ""; i++ {
		if name := fmt.Sprintf("backup%d", i); !taken(name) {
			b.Name = name
		}
	}
	// Some clients send the owner's name before that of the backup.
	b.Name = strings.TrimPrefix(b.Name, nameOf(b.Owner)+"/")
	if err := checkName(b.Name); err != nil {
		return err
	}
	if taken(b.Name) {
		return errs.Conflictf("backup %q of %q exists already", b.Name, b.Owner)
	}
	return nil
}

// nameOf is an owner's name in its project.
func nameOf(o Owner) string {
	if o.Instance != "" {
		return project.InstanceName(o.Instance)
	}
	return project.Name(o.Volume.Name)
}

func checkName(name string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune("/ ?#%", r) } // Such as part a path.
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, bad) || strings.HasPrefix(name, ".") {
		return errs.Invalidf(`name is %q: want 1 to 63 characters without spaces, "/", "?", "#" and "%%", and no dot at the beginning`, name)
	}
	return nil
}

// create records the backup as pending, makes the snapshot, and marks it ready.
func (s *Service) create(ctx context.Context, b *db.Backup) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.describe(ctx, b); err != nil {
		return err
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddBackup(ctx, tx, b) }); err != nil {
		return err
	}
	u.Push("forget the backup", func(ctx context.Context) error { return s.forget(ctx, *b) })

	if err := s.hide(ctx, b, db.Ready); err != nil {
		return err
	}
	u.Push("delete the backup's snapshot", func(ctx context.Context) error {
		return s.keeper(b.Owner).Unhide(ctx, b.Owner, b.Options.Hidden)
	})
	if err := s.mark(ctx, *b, db.Ready); err != nil {
		return err
	}
	s.event("created", b.Owner, b.Name, nil)
	return nil
}

// describe writes down what there is now.
func (s *Service) describe(ctx context.Context, b *db.Backup) error {
	doc, err := s.keeper(b.Owner).Document(ctx, b.Owner)
	if err != nil {
		return err
	}
	b.Options.Snapshots = nil
	if !b.Options.Only {
		b.Options.Snapshots = snapshots(b.Owner, doc)
	}
	b.Options.Document, err = json.Marshal(doc)
	return err
}

// snapshots names the snapshots that a document describes, oldest first.
func snapshots(o Owner, doc api.Document) (names []string) {
	if o.Instance == "" {
		for _, s := range doc.VolumeSnapshots {
			names = append(names, s.Name)
		}
		return names
	}
	for _, s := range doc.Snapshots {
		names = append(names, s.Name)
	}
	return names
}

// hide makes the snapshot that a backup is. If the driver has no stream for
// the volume, as overlay for custom ones, the backup becomes a plain one.
func (s *Service) hide(ctx context.Context, b *db.Backup, status db.Status) error {
	if b.Options.Optimized {
		err := s.hideOptimized(ctx, *b, status)
		if !errs.Is(err, errs.Unsupported) {
			return err
		}
		b.Options.Optimized = false
	}
	return s.keeper(b.Owner).Hide(ctx, b.Owner, b.Options.Hidden, status)
}

func (s *Service) hideOptimized(ctx context.Context, b db.Backup, status db.Status) error {
	k := s.keeper(b.Owner)
	var doc api.Document
	if err := json.Unmarshal(b.Options.Document, &doc); err != nil {
		return err
	}
	if b.Owner.Instance == "" {
		if doc.Volume.ContentType == "iso" {
			return errs.Newf(errs.Unsupported, "volume %q is an ISO image, which has no optimized format", b.Owner)
		}
		return s.hideStream(ctx, b, status)
	}
	text, err := archives.Text(doc, b.Options.Snapshots)
	if err != nil {
		return err
	}
	// What is full can be backed up, for a daemon of ours.
	if err := k.Describe(ctx, b.Owner, text); err != nil && !errs.Is(err, errs.Unavailable) {
		return err
	}
	err = s.hideStream(ctx, b, status)
	return errors.Join(err, k.Describe(context.WithoutCancel(ctx), b.Owner, nil))
}

// hideStream makes a snapshot that the driver can send.
func (s *Service) hideStream(ctx context.Context, b db.Backup, status db.Status) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	k := s.keeper(b.Owner)
	if err := k.Hide(ctx, b.Owner, b.Options.Hidden, status); err != nil {
		return err
	}
	u.Push("delete the backup's snapshot", func(ctx context.Context) error { return k.Unhide(ctx, b.Owner, b.Options.Hidden) })
	d, v, err := k.Volume(ctx, b.Owner)
	if err != nil {
		return err
	}
	v.Snapshot = b.Options.Hidden
	return archives.CheckStream(ctx, d, v)
}

func (s *Service) forget(ctx context.Context, b db.Backup) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteBackup(ctx, tx, b) })
}

func (s *Service) mark(ctx context.Context, b db.Backup, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetBackupStatus(ctx, tx, b, status) })
}

// Rename checks a request for another name.
func (s *Service) Rename(ctx context.Context, o Owner, name, to string) (ops.Job, error) {
	if _, err := s.Get(ctx, o, name); err != nil {
		return ops.Job{}, err
	}
	if to == "" {
		return ops.Job{}, checkName(to)
	}
	wanted := db.Backup{Owner: o, Name: to}
	if err := s.chooseName(ctx, &wanted); err != nil {
		return ops.Job{}, err
	}
	job := s.job("Renaming backup", o, name)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		b, err := s.Get(ctx, o, name)
		if err != nil {
			return err
		}
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.RenameBackup(ctx, tx, b, wanted.Name) })
		if err != nil {
			return fmt.Errorf("rename backup %q of %q: %w", name, o, err)
		}
		s.event("renamed", o, wanted.Name, map[string]any{"old_name": name})
		return nil
	}
	return job, nil
}

// Delete checks that a backup can be deleted: also one that is not whole.
func (s *Service) Delete(ctx context.Context, o Owner, name string) (ops.Job, error) {
	if _, err := s.getAny(ctx, o, name); err != nil {
		return ops.Job{}, err
	}
	job := s.job("Deleting backup", o, name)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		b, err := s.getAny(ctx, o, name)
		if err != nil {
			return err
		}
		return s.delete(ctx, b)
	}
	return job, nil
}

// delete marks the record first: a crash ends in the deletion. If the pool
// fails the backup stays, to be deleted again.
func (s *Service) delete(ctx context.Context, b db.Backup) (err error) {
	ctx = db.Freeing(ctx)
	if err := s.mark(ctx, b, db.Pending); err != nil {
		return err
	}
	err = s.keeper(b.Owner).Unhide(ctx, b.Owner, b.Options.Hidden)
	if err != nil && !errs.Is(err, errs.NotFound) {
		merr := s.mark(context.WithoutCancel(ctx), b, db.Ready)
		return fmt.Errorf("delete backup %q of %q: %w", b.Name, b.Owner, errors.Join(err, merr))
	}
	if err := s.forget(ctx, b); err != nil {
		return err
	}
	s.event("deleted", b.Owner, b.Name, nil)
	return nil
}

// Tick deletes the backups whose time is over.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	var over []db.Backup
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		over, err = db.ExpiredBackups(ctx, tx, now)
		return err
	})
	for _, b := range over {
		if derr := s.delete(ctx, b); derr != nil {
			s.Log.WarnContext(ctx, "cannot delete an expired backup", "owner", b.Owner.String(), "backup", b.Name, "err", derr)
		}
	}
	return err
}

// Recover forgets the backups that were being made or deleted. Their hidden
// snapshots go when instances and volumes are recovered, which is later.
func (s *Service) Recover(ctx context.Context) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.AllBackups(ctx, tx)
		if err != nil {
			return err
		}
		for _, b := range all {
			if b.Status != db.Pending {
				continue
			}
			if err := db.DeleteBackup(ctx, tx, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// job describes an operation on a backup.
func (s *Service) job(what string, o Owner, name string) ops.Job {
	job := ops.Job{
		Description: what, Objects: []string{"backup of " + o.String() + "/" + name},
		Resources: map[string][]string{"backups": {url(o) + "/backups/" + name}},
	}
	if o.Instance != "" {
		job.Resources["instances"] = []string{url(o)}
		job.Resources["containers"] = []string{url(o)}
	} else {
		job.Resources["storage_volumes"] = []string{url(o)}
	}
	return job
}

func url(o Owner) string {
	if o.Instance != "" {
		return "/1.0/instances/" + o.Instance
	}
	return "/1.0/storage-pools/" + o.Volume.Pool + "/volumes/custom/" + neturl.PathEscape(o.Volume.Name)
}

// event tells who listens what happened to a backup.
func (s *Service) event(action string, o Owner, name string, details map[string]any) {
	what := "instance-backup-"
	if o.Instance == "" {
		what = "storage-volume-backup-"
	}
	s.Events.Lifecycle(what+action, url(o)+"/backups/"+name, details)
}

// kind is what an archive of an owner is of.
func kind(o Owner) storage.Kind {
	if o.Instance != "" {
		return storage.Instance
	}
	return storage.Custom
}
