package recovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/storage"
)

// When records are written.
const (
	quiet   = time.Second      // So long nothing must have happened,
	longest = 10 * time.Second // but no longer than this is waited for that.
	begin   = 3 * time.Second  // After the start, for those that are out of date.
	pace    = 5 * time.Millisecond
	grace   = 10 * time.Second // At the end.
)

// An object is what has a record of its own: an instance (kind and name), a
// custom volume (all three), or a pool.
type object struct {
	kind storage.Kind
	pool string
	name string
}

// Run writes records of what changes, and of what changed while nobody did,
// until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	again := make(chan struct{}, 1)
	s.mu.Lock()
	s.again = again
	s.mu.Unlock()
	for ctx.Err() == nil {
		l := s.Events.Listen("lifecycle")
		s.follow(ctx, l, again)
		l.Close()
	}
	return nil
}

// follow writes records until ctx ends, or the listener, as it was too slow.
func (s *Service) follow(ctx context.Context, l *events.Listener, again <-chan struct{}) {
	all := time.NewTimer(begin)
	defer all.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	changed := map[object]bool{}
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			s.writeLast(ctx, l, changed)
			return
		case e, ok := <-l.C:
			if !ok {
				return
			}
			before := len(changed)
			s.note(ctx, e, changed)
			if len(changed) == 0 {
				continue
			}
			if before == 0 {
				since = time.Now()
			}
			due.Reset(max(0, min(quiet, longest-time.Since(since))))
		case <-due.C:
			s.write(ctx, changed)
			clear(changed)
		case <-again:
			all.Reset(begin)
		case <-all.C:
			if err := s.WriteAll(ctx); err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "cannot write down what the pools hold", "err", err)
			}
		}
	}
}

// writeLast is write at the end of the daemon, of what came until then too.
func (s *Service) writeLast(ctx context.Context, l *events.Listener, changed map[object]bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	for {
		select {
		case e, ok := <-l.C:
			if ok {
				s.note(ctx, e, changed)
				continue
			}
		default:
		}
		s.write(ctx, changed)
		return
	}
}

// note adds what an event changed.
func (s *Service) note(ctx context.Context, e *api.Event, changed map[object]bool) {
	var m api.EventLifecycle
	if err := json.Unmarshal(e.Metadata, &m); err != nil {
		return
	}
	source, _, _ := strings.Cut(m.Source, "?")
	parts := strings.Split(strings.TrimPrefix(source, "/1.0/"), "/")
	for i := range parts {
		if p, err := url.PathUnescape(parts[i]); err == nil {
			parts[i] = p
		}
	}
	switch {
	case len(parts) < 2:
	case parts[0] == "instances":
		o := object{kind: storage.Instance, name: project.Instance(m.Project, parts[1])}
		s.noteOne(m, o, changed)
	case parts[0] == "storage-pools" && len(parts) >= 5 && parts[2] == "volumes" && parts[3] == "custom":
		o := object{kind: storage.Custom, pool: parts[1], name: project.Key(m.Project, parts[4])}
		s.noteOne(m, o, changed)
	case parts[0] == "storage-pools":
		changed[object{pool: parts[1]}] = true
		if m.Action == "storage-pool-created" {
			s.forget(func(w object) bool { return w.pool == parts[1] })
		}
	case parts[0] == "profiles" || parts[0] == "projects" || strings.HasPrefix(parts[0], "network"): // ACLs, address sets and zones, too.
		s.noteUsers(ctx, parts[0], project.Key(m.Project, parts[1]), changed)
	}
}

// anew end the actions after which an object can be in another volume, or one
// that was made anew. That has no record, even if what it had before was the
// same.
var anew = []string{"-created", "-renamed", "-updated", "-rebuilt", "-restored"}

// noteOne adds an object.
func (s *Service) noteOne(m api.EventLifecycle, o object, changed map[object]bool) {
	changed[o] = true
	if slices.ContainsFunc(anew, func(end string) bool { return strings.HasSuffix(m.Action, end) }) {
		s.forget(func(w object) bool { return w.kind == o.kind && w.name == o.name })
	}
}

// forget has records be read again to know whether they are written.
func (s *Service) forget(which func(object) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.written, func(w object, _ [32]byte) bool { return which(w) })
}

// noteUsers adds what has a project, a profile or a network in its record.
func (s *Service) noteUsers(ctx context.Context, what, name string, changed map[object]bool) {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Pools(ctx, tx)
		if err != nil {
			return err
		}
		for _, p := range all {
			changed[object{pool: p.Name}] = true
		}
		if what != "profiles" {
			return nil
		}
		instances, err := db.NamesUsingProfile(ctx, tx, name)
		for _, in := range instances {
			changed[object{kind: storage.Instance, name: in}] = true
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "cannot find what uses an object", what, name, "err", err)
	}
}

// PoolAppeared has the records of a pool that was missing be written soon.
func (s *Service) PoolAppeared(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.again <- struct{}{}:
	default: // It is to be done, or nobody runs.
	}
	return nil
}

// WriteAll writes the records that are out of date.
func (s *Service) WriteAll(ctx context.Context) error {
	all, err := s.everything(ctx)
	if err != nil {
		return err
	}
	wait := time.NewTicker(pace)
	defer wait.Stop()
	for o := range all {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
			s.write(ctx, map[object]bool{o: true})
		}
	}
	return nil
}

// everything returns all that has a record.
func (s *Service) everything(ctx context.Context) (map[object]bool, error) {
	out := map[object]bool{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Pools(ctx, tx)
		if err != nil {
			return err
		}
		for _, p := range all {
			out[object{pool: p.Name}] = true
		}
		volumes, err := db.Volumes(ctx, tx)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			out[object{kind: storage.Custom, pool: v.Pool, name: v.Name}] = true
		}
		instances, err := db.Instances(ctx, tx)
		for _, in := range instances {
			out[object{kind: storage.Instance, name: in.Name}] = true
		}
		return err
	})
	return out, err
}

// write writes records. What is gone, or whose pool is missing, has none: when
// that appears they are written.
func (s *Service) write(ctx context.Context, changed map[object]bool) {
	for o := range changed {
		err := s.writeOne(ctx, o)
		if err == nil || errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unavailable) || ctx.Err() != nil {
			continue
		}
		s.Log.WarnContext(ctx, "cannot write down what a pool holds", "kind", string(o.kind), "name", o.name, "pool", o.pool, "err", err)
	}
}

func (s *Service) writeOne(ctx context.Context, o object) error {
	pool, text, err := s.text(ctx, o)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	key := object{o.kind, pool, o.name}
	if s.isWritten(key, sum) {
		return nil
	}
	d, err := s.Pools.Driver(ctx, pool)
	if err != nil {
		return err
	}
	r, ok := d.(storage.Recorder)
	if !ok {
		return nil
	}
	v := storage.Volume{Kind: o.kind, Name: o.name}
	have, err := r.Record(ctx, v)
	if err == nil && !bytes.Equal(have, text) {
		err = r.SetRecord(ctx, v, text)
	}
	if err == nil && o.kind == "" {
		err = s.Pools.Note(ctx, pool, text)
	}
	if err == nil {
		s.setWritten(key, sum)
	}
	return err
}

// text returns the record that an object is to have, and in which pool.
func (s *Service) text(ctx context.Context, o object) (pool string, text []byte, err error) {
	if o.kind == "" {
		p, err := s.poolDocument(ctx, o.pool)
		if err != nil {
			return "", nil, err
		}
		text, err = api.MarshalYAML(p)
		return o.pool, text, err
	}
	var doc api.Document
	if o.kind == storage.Custom {
		doc, err = s.Volumes.Document(ctx, o.pool, o.name)
	} else {
		doc, err = s.Instances.Document(ctx, o.name)
	}
	if err != nil {
		return "", nil, err
	}
	text, err = settled(doc).YAML()
	return doc.Pool.Name, text, err
}

func (s *Service) isWritten(o object, sum [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written[o] == sum
}

func (s *Service) setWritten(o object, sum [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written == nil {
		s.written = map[object][32]byte{}
	}
	s.written[o] = sum
}
