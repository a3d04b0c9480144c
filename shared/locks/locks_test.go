package locks_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cuib/cuib/shared/locks"
)

func TestOneHoldsANameAtATime(t *testing.T) {
	t.Parallel()
	var (
		k     locks.Keyed
		wg    sync.WaitGroup
		count = map[string]*int{"a": new(int), "b": new(int)}
	)
	for range 50 {
		for name, n := range count {
			wg.Go(func() {
				unlock := k.Lock(name)
				defer unlock()
				*n++ // The race detector watches.
			})
		}
		wg.Go(func() {
			unlock := k.LockAll("b", "a", "b")
			defer unlock()
			*count["a"]++
			*count["b"]++
		})
		wg.Go(func() {
			unlock := k.LockAll("a", "b")
			defer unlock()
			*count["a"]++
			*count["b"]++
		})
	}
	wg.Wait()
	for name, n := range count {
		if *n != 150 {
			t.Errorf("%s was counted %d times, want 150", name, *n)
		}
	}
}

func TestNamesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	var k locks.Keyed
	unlock := k.Lock("a")
	defer unlock()
	k.Lock("b")()
}

func TestLockContextGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	var k locks.Keyed
	unlock := k.Lock("a")
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := k.LockContext(ctx, "a"); !errors.Is(err, why) {
		t.Errorf("the error is %v, want the context's cause", err)
	}
	unlock()
	unlock, err := k.LockContext(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
