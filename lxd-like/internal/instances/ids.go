package instances

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
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
	if !ok || got.Size != set.IDs.Size || set.IDs.Base > 0 && got.First != set.IDs.Base {
		if got, err = s.takeRange(set.IDs.Base, set.IDs.Size); err != nil {
			return nil, err
		}
		s.release(in.Name)
		s.ranges.put(in.Name, got)
	}
	return idmap.Default(got.First, got.Size).Merge(set.IDs.Raw)
}

func (s *Service) takeRange(base, size int64) (idmap.Range, error) {
	if base > 0 {
		return idmap.Range{First: base, Size: size}, s.IDs.TakeAt(base, size)
	}
	base, err := s.IDs.Take(size)
	return idmap.Range{First: base, Size: size}, err
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
		size := int64(profiles.DefaultIDs)
		if n, err := strconv.ParseInt(row.Config["security.idmap.size"], 10, 64); err == nil {
			size = n
		}
		if s.IDs.TakeAt(base, size) != nil {
			lost = append(lost, row.Name)
			continue
		}
		s.ranges.put(row.Name, idmap.Range{First: base, Size: size})
	}
	return lost
}
