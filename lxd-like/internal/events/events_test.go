package events_test

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/shared/api"
)

func TestTypes(t *testing.T) {
	var h events.Hub
	h.Publish("default", "operation", 1) // Nobody listens.
	all, some := h.Listen(), h.Listen("lifecycle")
	h.Publish("default", "operation", 2)
	h.Lifecycle("instance-created", "/1.0/instances/c1", map[string]any{"type": "container"})
	if e := <-all.C; e.Type != "operation" || string(e.Metadata) != "2" || e.Project != "default" || e.Timestamp.IsZero() {
		t.Errorf("got %+v", e)
	}
	for _, l := range []*events.Listener{all, some} {
		e := <-l.C
		var m api.EventLifecycle
		if err := json.Unmarshal(e.Metadata, &m); err != nil || e.Type != "lifecycle" || m.Action != "instance-created" || m.Source != "/1.0/instances/c1" || m.Context["type"] != "container" {
			t.Errorf("got %+v, %v", m, err)
		}
	}
}

func TestCloseEndsTheChannel(t *testing.T) {
	var h events.Hub
	l := h.Listen()
	l.Close()
	l.Close() // It does no harm.
	if _, ok := <-l.C; ok {
		t.Error("an event after the end")
	}
	h.Publish("default", "operation", 1)
}

func TestSlowListenerIsDroppedAndOthersAreNot(t *testing.T) {
	var h events.Hub
	slow, fast := h.Listen(), h.Listen()
	const n = 5000
	var wg sync.WaitGroup
	got := make(chan struct{})
	wg.Go(func() {
		for range n {
			if _, ok := <-fast.C; !ok {
				t.Error("the fast listener was dropped")
				return
			}
			got <- struct{}{}
		}
	})
	for i := range n {
		h.Publish("default", "operation", i)
		<-got
	}
	wg.Wait()
	seen := 0
	for range slow.C {
		seen++
	}
	if seen == 0 || seen >= n {
		t.Errorf("the slow listener saw %d of %d events", seen, n)
	}
	fast.Close()
}

func TestManyAtOnce(*testing.T) {
	var h events.Hub
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			l := h.Listen()
			h.Publish("default", "operation", 1)
			<-l.C
			l.Close()
		})
	}
	wg.Wait()
}
