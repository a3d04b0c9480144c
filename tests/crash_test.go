package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crashes is how often TestCrash kills the daemon.
const crashes = 100

// TestCrash kills the daemon at random under a load of mixed changes, and
// then finds every change that was acknowledged, nothing half-made, and, when
// all is deleted, nothing left over.
func TestCrash(t *testing.T) {
	h := startHost(t)
	if err := h.image("tiny", "tiny"); err != nil {
		t.Fatal(err)
	}

	// What the first instance makes besides, such as the default pool, can
	// take longer than a round.
	api := newAPI(h.socket())
	if err := errors.Join(api.create("first", "tiny"), api.call(http.MethodDelete, "/1.0/instances/first", nil, nil)); err != nil {
		t.Fatal(err)
	}

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	models := []*model{newModel("a", seed), newModel("b", seed+1), newModel("c", seed+2)}
	changes, longer := 0, 1
	for n := range crashes {
		api := newAPI(h.socket())
		var wg sync.WaitGroup
		for _, m := range models {
			wg.Go(func() { m.load(api) })
		}
		time.Sleep(time.Duration(longer*(20+rnd.IntN(400))) * time.Millisecond)
		if err := h.stop(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
		all, err := newAPI(h.socket()).instances()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range models {
			changes += m.acknowledged
			m.acknowledged = 0
			if err := m.check(all); err != nil {
				t.Fatalf("after crash %d: %v\n%s", n+1, err, h.logs())
			}
		}
		if changes <= n { // On a slow machine they take longer.
			longer = min(2*longer, 16)
		}
	}
	t.Logf("%d crashes, %d acknowledged changes", crashes, changes)
	if changes < crashes {
		t.Errorf("only %d changes were acknowledged in %d rounds: too few to show anything", changes, crashes)
	}
}

// A model is what one user knows of the instances that only they change.
type model struct {
	rnd   *rand.Rand
	names []string
	known map[string]*modelInstance

	inFlight     string // The instance that the last request, which got no answer, was about.
	unsure       bool   // Whether that runs: the daemon may be about to start it.
	acknowledged int
	failed       error // An answer that there should not have been.
}

type modelInstance struct {
	running   bool
	value     string
	snapshots []string
}

func newModel(prefix string, seed uint64) *model {
	m := &model{rnd: rand.New(rand.NewPCG(seed, 1)), known: map[string]*modelInstance{}}
	for i := range 3 {
		m.names = append(m.names, fmt.Sprintf("%s%d", prefix, i))
	}
	return m
}

// load makes changes until the daemon is gone.
func (m *model) load(api *apiClient) {
	if m.unsure {
		// It runs already or does after this.
		err := api.setState(m.inFlight, "start")
		if errors.Is(err, errGone) {
			return
		}
		if err != nil && !strings.Contains(err.Error(), "is running already") {
			m.failed = fmt.Errorf("start again what may run: %w", err)
			return
		}
		m.known[m.inFlight].running, m.unsure = true, false
	}
	m.inFlight = ""
	for {
		name := m.names[m.rnd.IntN(len(m.names))]
		m.inFlight = name
		err := m.change(api, name)
		if errors.Is(err, errGone) {
			return
		}
		if err != nil {
			m.failed = err
			return
		}
		m.inFlight = ""
		m.acknowledged++
	}
}

// change makes one change that makes sense, and remembers it when it was
// acknowledged.
func (m *model) change(api *apiClient, name string) error {
	in := m.known[name]
	if in == nil {
		if err := api.create(name, "tiny"); err != nil {
			return err
		}
		m.known[name] = &modelInstance{}
		return nil
	}
	path := "/1.0/instances/" + name
	switch n := m.rnd.IntN(10); {
	case n < 2 && !in.running:
		if err := api.call(http.MethodDelete, path, nil, nil); err != nil {
			return err
		}
		delete(m.known, name)
	case n < 5:
		action := map[bool]string{true: "stop", false: "start"}[in.running]
		if err := api.setState(name, action); err != nil {
			return err
		}
		in.running = !in.running
	case n < 7:
		value := fmt.Sprint(m.rnd.Uint32())
		if err := api.call(http.MethodPatch, path, map[string]any{"config": map[string]string{"user.value": value}}, nil); err != nil {
			return err
		}
		in.value = value
	default:
		return m.changeSnapshot(api, path, in)
	}
	return nil
}

func (m *model) changeSnapshot(api *apiClient, path string, in *modelInstance) error {
	if len(in.snapshots) > 2 {
		if err := api.call(http.MethodDelete, path+"/snapshots/"+in.snapshots[0], nil, nil); err != nil {
			return err
		}
		in.snapshots = in.snapshots[1:]
		return nil
	}
	snap := fmt.Sprintf("s%d", m.rnd.Uint32())
	if err := api.call(http.MethodPost, path+"/snapshots", map[string]string{"name": snap}, nil); err != nil {
		return err
	}
	in.snapshots = append(in.snapshots, snap)
	return nil
}

// check compares what the daemon has with what it acknowledged, and takes
// from it what became of the request that got no answer.
func (m *model) check(all map[string]apiInstance) error {
	if m.failed != nil {
		return m.failed
	}
	for _, name := range m.names {
		got, have := all[name]
		want := m.known[name]
		if name == m.inFlight {
			m.unsure = have
			delete(m.known, name)
			if have {
				m.known[name] = &modelInstance{value: got.Config["user.value"], snapshots: snapshotNames(got)}
			}
			continue
		}
		if have != (want != nil) {
			return fmt.Errorf("instance %s: there is %v, acknowledged %v", name, have, want != nil)
		}
		if !have {
			continue
		}
		if running := got.Status == "Running"; running != want.running {
			return fmt.Errorf("instance %s is %s, acknowledged running %v", name, got.Status, want.running)
		}
		if got.Config["user.value"] != want.value {
			return fmt.Errorf("instance %s has value %q, acknowledged %q", name, got.Config["user.value"], want.value)
		}
		if snaps := snapshotNames(got); !slices.Equal(snaps, slices.Sorted(slices.Values(want.snapshots))) {
			return fmt.Errorf("instance %s has snapshots %v, acknowledged %v", name, snaps, want.snapshots)
		}
	}
	return nil
}

func snapshotNames(in apiInstance) []string {
	var names []string
	for _, s := range in.Snapshots {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}
