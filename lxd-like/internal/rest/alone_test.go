package rest_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
)

// stored is an instance that is as it was changed last.
type stored struct {
	*fakeInstances

	mu  sync.Mutex // Guards put.
	put api.InstancePut
}

func (s *stored) Get(context.Context, string) (api.Instance, error) {
	in := s.instance()
	s.mu.Lock()
	in.InstancePut = s.put
	in.Config = maps.Clone(s.put.Config)
	s.mu.Unlock()
	time.Sleep(5 * time.Millisecond) // Others could read the same.
	return in, nil
}

func (s *stored) UpdateNow(_ context.Context, _ string, put api.InstancePut) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put = put
	return nil
}

// TestPatchesTogether has several clients change one instance at once, while
// one does not come to the end of what it sends: no change is lost.
func TestPatchesTogether(t *testing.T) {
	t.Parallel()
	s := serve(t)
	in := &stored{fakeInstances: s.instances}
	s.Instances = in
	slow, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://cuib/1.0/instances/c1", slow)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if resp, err := s.client.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(w, `{"config":`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var want []string
	for i := range 8 {
		key := fmt.Sprintf("user.%d", i)
		want = append(want, key)
		wg.Go(func() {
			if a := s.do(http.MethodPatch, "/1.0/instances/c1", fmt.Sprintf(`{"config":{%q:"x"}}`, key)); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", key, a.status, a.body)
			}
		})
	}
	wg.Wait()
	if got := slices.Sorted(maps.Keys(in.put.Config)); !slices.Equal(got, want) {
		t.Errorf("the instance has %v, want %v", got, want)
	}
	if _, err := io.WriteString(w, `{"user.slow":"x"}}`); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // It is the end of what is sent.
	<-sent
	if got := in.put.Config; len(got) != len(want)+1 || got["user.slow"] != "x" {
		t.Errorf("after the slow one the instance has %v", got)
	}
}
