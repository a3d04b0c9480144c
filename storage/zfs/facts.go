package zfs

import (
	"maps"
	"sync"
)

// A fact is what is known of a volume without asking ZFS.
type fact struct {
	history   bool              // It may have datasets with snapshots below it.
	limited   bool              // It may have a limit.
	options   map[string]string // Those that Tune set.
	delegated string            // The ID of the dataset that its guest has.
}

// facts are those of all volumes that have some, by their datasets.
type facts struct {
	mu  sync.Mutex
	all map[string]fact
}

func (f *facts) of(dataset string) fact {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.all[dataset]
	known.options = maps.Clone(known.options)
	return known
}

func (f *facts) update(dataset string, fn func(*fact)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.all[dataset]
	fn(&known)
	if f.all == nil {
		f.all = map[string]fact{}
	}
	f.all[dataset] = known
}

func (f *facts) move(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.all[from]; ok {
		f.all[to] = known
		delete(f.all, from)
	}
}

func (f *facts) drop(dataset string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, dataset)
}
