package instances

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// idRanges knows which of the host's ids the instances have. The zero value
// is ready to use.
type idRanges struct {
	mu   sync.Mutex // Guards held.
	held map[string]idmap.Range
}

func (r *idRanges) get(name string) (idmap.Range, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, ok := r.held[name]
	return got, ok
}

func (r *idRanges) put(name string, got idmap.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[string]idmap.Range{}
	}
	r.held[name] = got
}

func (r *idRanges) take(name string) (idmap.Range, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, ok := r.held[name]
	delete(r.held, name)
	return got, ok
}

// allot gives an instance a range of ids, if it needs one and does not have
// it, and writes it into the configuration in memory.
func (s *Service) allot(in *instance) error {
	ids, err := s.mapping(in)
	if err != nil || ids == nil {
		return err
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	got, _ := s.ranges.get(in.Name)
	in.apply(map[string]string{keyIDBase: strconv.FormatInt(got.First, 10), keyIDNext: string(text)})
	return nil
}

// mapping returns the ids of an instance; it takes a range of them if the
// instance has none, or one that does not fit its configuration any more.
func (s *Service) mapping(in *instance) (idmap.Map, error) {
	set, err := settings(in)
	if err != nil || set.Security.Privileged {
		return nil, err // A privileged instance has no map.
	}
	got, ok := s.ranges.get(in.Name)
	if !ok || !s.fits(got, set.IDs) {
		if got, err = s.moveRange(got, set.IDs); err != nil {
			return nil, err
		}
		s.ranges.put(in.Name, got)
	}
	return idmap.Default(got.First, got.Size).Merge(set.IDs.Raw)
}

// fits reports whether a range is one that an instance would get now.
func (s *Service) fits(got idmap.Range, want profiles.IDs) bool {
	switch {
	case want.Base > 0 && got.First != want.Base:
		return false
	case got.Size < want.Size && got.Size >= want.Least:
		return s.IDs.CheckFree(want.Size) != nil
	}
	return got.Size == want.Size
}

// moveRange takes a range of ids in place of the one that an instance has.
func (s *Service) moveRange(from idmap.Range, want profiles.IDs) (idmap.Range, error) {
	to := idmap.Range{First: want.Base, Size: want.Size}
	if to.First > 0 {
		return to, s.IDs.Move(from, to)
	}
	var err error
	for to.First, err = s.IDs.Take(to.Size); err != nil && to.Size > want.Least; to.First, err = s.IDs.Take(to.Size) {
		to.Size = max(to.Size/2, want.Least)
	}
	if err == nil {
		s.IDs.Free(from.First, from.Size)
	}
	return to, err
}

// checkIDs reports why an instance cannot have the ids that its options want.
func (s *Service) checkIDs(in *instance, set profiles.Settings) error {
	if set.Security.Privileged {
		return nil
	}
	got, _ := s.ranges.get(in.Name)
	switch {
	case set.IDs.Base == 0 && got.Size >= set.IDs.Least && got.Size <= set.IDs.Size:
		return nil
	case set.IDs.Base == 0:
		return s.IDs.CheckFree(set.IDs.Least)
	}
	if err := s.IDs.Check(got, idmap.Range{First: set.IDs.Base, Size: set.IDs.Size}); err != nil {
		return errs.Newf(errs.KindOf(err), "security.idmap.base: %w", err)
	}
	return nil
}

// release gives the instance's ids back.
func (s *Service) release(name string) {
	if got, ok := s.ranges.take(name); ok {
		s.IDs.Free(got.First, got.Size)
	}
}

// rename makes the ids those of the instance's new name.
func (r *idRanges) rename(from, to string) {
	if got, ok := r.take(from); ok {
		r.put(to, got)
	}
}

// reserve takes the ranges that the instances have from before the daemon
// started. Those that cannot be had any more are replaced at the next start.
func (s *Service) reserve(rows []db.Instance) (lost []string) {
	for _, row := range rows {
		base, err := strconv.ParseInt(row.Config[keyIDBase], 10, 64)
		if err != nil {
			continue
		}
		held := idmap.Range{First: base, Size: heldIDs(row, base)}
		if s.IDs.TakeAt(held.First, held.Size) != nil {
			lost = append(lost, row.Name)
			continue
		}
		s.ranges.put(row.Name, held)
	}
	return lost
}

// heldIDs is how many ids from base on an instance was given. Its options can
// say something else by now.
func heldIDs(row db.Instance, base int64) int64 {
	var ids idmap.Map
	if err := json.Unmarshal([]byte(row.Config[keyIDNext]), &ids); err != nil {
		return profiles.DefaultIDs
	}
	var end int64
	for _, e := range ids {
		if e.Host == base+e.Inside { // Not one of raw.idmap.
			end = max(end, e.Inside+e.Size)
		}
	}
	if end == 0 {
		return profiles.DefaultIDs // It was privileged when it ran last.
	}
	return end
}
