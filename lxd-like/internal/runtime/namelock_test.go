package runtime_test

import (
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
)

// TestSameNameOfTwoDaemons starts and ends containers of one name below two
// directories at once.
func TestSameNameOfTwoDaemons(t *testing.T) {
	var wg sync.WaitGroup
	first := newSpec(t)
	for range 2 {
		r, s := newRuntime(t), newSpec(t)
		s.Name = first.Name
		wg.Go(func() {
			for range 20 {
				exits := make(chan runtime.Exit, 1)
				if _, err := r.Start(t.Context(), s, func(e runtime.Exit) { exits <- e }); err != nil {
					t.Error(err)
					return
				}
				if err := r.Kill(t.Context(), s.Name); err != nil {
					t.Error(err)
				}
				<-exits
			}
		})
	}
	wg.Wait()
}
