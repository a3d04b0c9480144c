package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
)

// stored is a profile that is as it was changed last.
type stored struct {
	*fakeInstances

	mu  sync.Mutex // Guards put.
	put api.ProfilePut
}

func (s *stored) Profile(_ context.Context, name string) (api.Profile, error) {
	s.mu.Lock()
	p := api.Profile{Name: name, ProfilePut: s.put}
	p.Config = maps.Clone(s.put.Config)
	s.mu.Unlock()
	time.Sleep(5 * time.Millisecond) // Others could read the same.
	return p, nil
}

func (s *stored) UpdateProfile(_ context.Context, _ string, put api.ProfilePut) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put = put
	return nil
}

// TestPatchesTogether has several clients change one profile at once, while
// one does not come to the end of what it sends: no change is lost.
func TestPatchesTogether(t *testing.T) {
	t.Parallel()
	s := serve(t)
	in := &stored{fakeInstances: s.instances}
	s.Instances = in
	slow, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://cuib/1.0/profiles/p1", slow)
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
			if a := s.do(http.MethodPatch, "/1.0/profiles/p1", fmt.Sprintf(`{"config":{%q:"x"}}`, key)); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", key, a.status, a.body)
			}
		})
	}
	wg.Wait()
	if got := slices.Sorted(maps.Keys(in.put.Config)); !slices.Equal(got, want) {
		t.Errorf("the profile has %v, want %v", got, want)
	}
	if _, err := io.WriteString(w, `{"user.slow":"x"}}`); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // It is the end of what is sent.
	<-sent
	if got := in.put.Config; len(got) != len(want)+1 || got["user.slow"] != "x" {
		t.Errorf("after the slow one the profile has %v", got)
	}
}

// late is an instance, c1, with a snapshot that others change before the operation
// that a request has started. That begins when the request has been answered.
type late struct{ *fakeInstances }

func (l late) Update(ctx context.Context, name string, change func(api.InstancePut) (api.InstancePut, error)) (ops.Job, error) {
	job, err := l.fakeInstances.Update(ctx, name, change)
	job.Run = func(context.Context, *ops.Op) error {
		<-ctx.Done()
		in := l.instance()
		in.Config["user.a"] = "2"
		_, err := change(in.InstancePut)
		return err
	}
	return job, err
}

func (l late) UpdateSnapshot(ctx context.Context, in, name string, change func(api.InstanceSnapshotPut) (api.InstanceSnapshotPut, error)) (ops.Job, error) {
	job, err := l.fakeInstances.UpdateSnapshot(ctx, in, name, change)
	job.Run = func(context.Context, *ops.Op) error {
		<-ctx.Done()
		_, err := change(api.InstanceSnapshotPut{Description: "second"})
		return err
	}
	return job, err
}

// TestChangedBeforeItsOperation has an ETag that fits until the operation begins:
// what others have changed by then stays.
func TestChangedBeforeItsOperation(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Instances = late{s.instances}
	for _, tt := range []struct{ method, path string }{
		{"PUT", "/1.0/instances/c1"}, {"PUT", "/1.0/instances/c1/snapshots/s0"}, {"PATCH", "/1.0/instances/c1/snapshots/s0"},
	} {
		for match, want := range map[string]int64{s.do("GET", tt.path, "").header.Get("ETag"): http.StatusPreconditionFailed, "*": 0, "": 0} {
			a := s.do(tt.method, tt.path, "{}", "If-Match", match)
			if a.status != http.StatusAccepted {
				t.Fatalf("%s %s: %d %s", tt.method, tt.path, a.status, a.body)
			}
			var op struct{ Metadata api.Operation }
			if err := json.Unmarshal([]byte(s.do("GET", a.Operation+"/wait", "").body), &op); err != nil {
				t.Fatal(err)
			}
			if got := op.Metadata; got.ErrCode != want {
				t.Errorf("%s %s with If-Match %q: %q, %d; want %d", tt.method, tt.path, match, got.Err, got.ErrCode, want)
			}
		}
	}
}
