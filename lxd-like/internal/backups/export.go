package backups

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/storage"
)

// A Stream is an archive that is ready to be written.
type Stream struct {
	Name string // A file name for it.

	// Write writes it. What goes wrong from then on shows in that it is cut
	// off. Close is called in any case.
	Write func(ctx context.Context, w io.Writer) error
	Close func()
}

// Export gives the archive of a backup.
func (s *Service) Export(ctx context.Context, o Owner, name string) (Stream, error) {
	b, err := s.Get(ctx, o, name)
	if err != nil {
		return Stream{}, err
	}
	out, err := s.stream(ctx, b)
	if err != nil {
		return Stream{}, fmt.Errorf("export backup %q of %q: %w", name, o, err)
	}
	return out, nil
}

// Direct gives the archive of what there is now, without a record. It is a
// backup for as long as it is read.
func (s *Service) Direct(ctx context.Context, o Owner, req Request) (Stream, error) {
	b, err := s.draft(ctx, o, req)
	if err != nil {
		return Stream{}, err
	}
	b.Options.Hidden = storage.NewHidden(storage.ForReading) // Nobody remembers it.
	if err := s.describe(ctx, &b); err != nil {
		return Stream{}, err
	}
	if err := s.hide(ctx, &b, db.Pending); err != nil {
		return Stream{}, fmt.Errorf("export %q: %w", o, err)
	}
	later := context.WithoutCancel(ctx)
	unhide := func() {
		err := s.keeper(o).Unhide(later, o, b.Options.Hidden)
		if err != nil && !errs.Is(err, errs.NotFound) {
			s.Log.WarnContext(later, "cannot delete the snapshot of an export", "owner", o.String(), "snapshot", b.Options.Hidden, "err", err)
		}
	}
	out, err := s.stream(ctx, b)
	if err != nil {
		unhide()
		return Stream{}, fmt.Errorf("export %q: %w", o, err)
	}
	leave := out.Close
	out.Close = func() {
		leave()
		unhide()
	}
	return out, nil
}

// stream finds all that is needed to write an archive.
func (s *Service) stream(ctx context.Context, b db.Backup) (Stream, error) {
	how, err := archive.ParseCompression(b.Options.Compression)
	if err != nil {
		return Stream{}, err
	}
	d, v, err := s.keeper(b.Owner).Volume(ctx, b.Owner)
	if err != nil {
		return Stream{}, err
	}
	c := archives.Contents{Index: archives.Index{Kind: kind(b.Owner), Optimized: b.Options.Optimized}}
	c.Volume = storage.Volume{Kind: v.Kind, Name: v.Name, Snapshot: b.Options.Hidden}
	if err := s.index(ctx, b, &c.Index); err != nil {
		return Stream{}, err
	}
	// It stays mounted, and so nobody takes it away meanwhile.
	_, leave, err := s.keeper(b.Owner).Visit(ctx, b.Owner, b.Options.Hidden)
	if err != nil {
		return Stream{}, err
	}
	c.Mount = func(ctx context.Context, v storage.Volume) (string, func(), error) {
		return s.keeper(b.Owner).Visit(ctx, b.Owner, v.Snapshot)
	}
	name := c.Name
	if b.Name != "" {
		name += "-" + b.Name
	}
	return Stream{
		Name:  name + string(how.Format),
		Write: func(ctx context.Context, w io.Writer) error { return archives.Write(ctx, w, d, c, how) },
		Close: leave,
	}, nil
}

// index says what is in the archive of a backup: what was there when it was
// made, without the snapshots that were deleted since.
func (s *Service) index(ctx context.Context, b db.Backup, x *archives.Index) error {
	if err := json.Unmarshal(b.Options.Document, &x.Document); err != nil {
		return err
	}
	now, err := s.keeper(b.Owner).Document(ctx, b.Owner)
	if err != nil {
		return err
	}
	have := snapshots(b.Owner, now)
	for _, name := range b.Options.Snapshots {
		if slices.Contains(have, name) {
			x.Snapshots = append(x.Snapshots, name)
		}
	}
	x.Name = nameIn(x.Document)
	if x.Document.Pool != nil {
		x.Pool, x.Backend = x.Document.Pool.Name, x.Document.Pool.Driver
	}
	return nil
}

func nameIn(doc api.Document) string {
	if doc.Instance != nil {
		return project.InstanceName(doc.Instance.Name)
	}
	if doc.Volume != nil {
		return project.Name(doc.Volume.Name)
	}
	return ""
}
