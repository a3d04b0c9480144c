package idmap

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/shared/errs"
)

// The ids that instances get where the host's files say nothing of root's.
const (
	defaultFirst = 1_000_000
	defaultLast  = 1_000_000_000
)

// An Allocator gives out ranges of the host's ids. It keeps them in memory
// alone: the daemon takes those of all instances when it starts. It is safe
// for concurrent use.
type Allocator struct {
	limits   []Range
	reserved map[Range]bool // Parts of taken that nobody can give back.

	mu    sync.Mutex // Guards taken.
	taken []Range    // Sorted; no two overlap.
}

// NewAllocator returns an allocator of the ids in limits that are not in
// reserved.
func NewAllocator(limits, reserved []Range) *Allocator {
	a := &Allocator{limits: slices.Clone(limits), reserved: map[Range]bool{}}
	for _, r := range reserved {
		for _, part := range subtract(r, a.taken) {
			a.insert(part)
			a.reserved[part] = true
		}
	}
	return a
}

// HostRanges returns what the files /etc/subuid and /etc/subgid leave to
// instances: the ranges that both give to root, and the ranges that either
// gives to others. It is a large default where the files give nothing to root
// alone: Debian's lxd gives all that root has to a user of its own, too.
func HostRanges(subuid, subgid []SubID) (limits, reserved []Range) {
	for _, s := range slices.Concat(subuid, subgid) {
		if !isRoot(s) {
			reserved = append(reserved, s.Range)
		}
	}
	sorted := slices.SortedFunc(slices.Values(reserved), func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	for _, r := range intersect(rootRanges(subuid), rootRanges(subgid)) {
		if len(subtract(r, sorted)) > 0 {
			limits = append(limits, r)
		}
	}
	if len(limits) == 0 {
		limits = []Range{{defaultFirst, defaultLast - defaultFirst + 1}}
	}
	return limits, reserved
}

// Within returns the parts of ranges of ids that the process itself has, as
// its uid_map and gid_map say: in a container these are not all. If they leave
// nothing, it is what is above the ids of a usual system.
func Within(limits, users, groups []Range) []Range {
	own := intersect(users, groups)
	if in := intersect(limits, own); len(in) > 0 {
		return in
	}
	return intersect([]Range{{firstAbove, Max - firstAbove}}, own)
}

// firstAbove is the first id that users of a usual system do not have.
const firstAbove = 65536

// intersect returns the ranges of ids that are in both lists.
func intersect(a, b []Range) []Range {
	var both []Range
	for _, x := range a {
		for _, y := range b {
			first, end := max(x.First, y.First), min(x.end(), y.end())
			if first < end {
				both = append(both, Range{first, end - first})
			}
		}
	}
	return both
}

// Take gives out the lowest free range of the size.
func (a *Allocator) Take(size int64) (base int64, err error) {
	if size < 1 {
		return 0, errs.Invalidf("an id range of %d ids is not possible", size)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.lowest(size)
	if err == nil {
		a.insert(r)
	}
	return r.First, err
}

// CheckFree reports why [Allocator.Take] would fail.
func (a *Allocator) CheckFree(size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.lowest(size)
	return err
}

func (a *Allocator) lowest(size int64) (Range, error) {
	for _, l := range a.limits {
		if r, ok := a.free(l, size); ok {
			return r, nil
		}
	}
	if len(a.limits) == 0 {
		return Range{}, errs.Newf(errs.Unavailable, "no ids are left for instances: this host is itself a container, which needs more (security.nesting or security.idmap.size)")
	}
	return Range{}, errs.Newf(errs.Unavailable, "no range of %d ids is free: instances and other users of the host have all of %s", size, list(a.limits))
}

// TakeAt gives out the range at base.
func (a *Allocator) TakeAt(base, size int64) error { return a.Move(Range{}, Range{base, size}) }

// Move gives out the range to in place of from, which its holder gives back;
// they can overlap. The zero from is none. If it fails, from stays given out.
func (a *Allocator) Move(from, to Range) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refusal(from, to); err != nil {
		return err
	}
	a.drop(from)
	a.insert(to)
	return nil
}

// Check reports why [Allocator.Move] would fail.
func (a *Allocator) Check(from, to Range) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refusal(from, to)
}

func (a *Allocator) refusal(from, to Range) error {
	if to.Size < 1 || to.First < 0 || to.First > Max || to.Size > Max+1-to.First {
		return errs.Invalidf("an id range of %d ids at %d is not possible", to.Size, to.First)
	}
	if !slices.ContainsFunc(a.limits, func(l Range) bool { return to.First >= l.First && to.end() <= l.end() }) {
		return errs.Invalidf("the ids %s are not among those for instances, %s", to, list(a.limits))
	}
	i := slices.IndexFunc(a.taken, func(t Range) bool { return to.overlaps(t) && (t != from || a.reserved[t]) })
	if i >= 0 {
		return errs.Conflictf("the ids %s are in use: %s belong to another instance or user of the host", to, a.taken[i])
	}
	return nil
}

// Free takes back a range that was given out. It does nothing if it was not.
func (a *Allocator) Free(base, size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(Range{base, size})
}

func (a *Allocator) drop(r Range) {
	a.taken = slices.DeleteFunc(a.taken, func(t Range) bool { return t == r && !a.reserved[t] })
}

// free returns the lowest range of the size in l that is not taken.
func (a *Allocator) free(l Range, size int64) (Range, bool) {
	at := l.First
	for _, t := range a.taken {
		if t.First-at >= size {
			break
		}
		at = max(at, t.end())
	}
	return Range{at, size}, at+size <= l.end()
}

func (a *Allocator) insert(r Range) {
	i, _ := slices.BinarySearchFunc(a.taken, r, func(t, r Range) int { return cmp.Compare(t.First, r.First) })
	a.taken = slices.Insert(a.taken, i, r)
}

// subtract returns the parts of r that are not in taken, which is sorted.
func subtract(r Range, taken []Range) []Range {
	var parts []Range
	at := r.First
	for _, t := range taken {
		if !r.overlaps(t) {
			continue
		}
		if t.First > at {
			parts = append(parts, Range{at, t.First - at})
		}
		at = max(at, t.end())
	}
	if at < r.end() {
		parts = append(parts, Range{at, r.end() - at})
	}
	return parts
}

func rootRanges(all []SubID) []Range {
	var out []Range
	for _, s := range all {
		if isRoot(s) {
			out = append(out, s.Range)
		}
	}
	return out
}

func isRoot(s SubID) bool { return s.Owner == "root" || s.Owner == "0" }

func list(all []Range) string {
	parts := make([]string, 0, len(all))
	for _, r := range all {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ", ")
}
