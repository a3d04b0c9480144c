package instances_test

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"testing"

	"github.com/cuib/cuib/shared/api"
)

// TestAutostartInOrder starts instances of several priorities, more of each
// than start at once.
func TestAutostartInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const each = 10
	want := map[string]int{}
	for i := range 3 * each {
		name := "c" + strconv.Itoa(i)
		want[name] = i % 3
		w.stopped(name, api.ConfigMap{"boot.autostart": "true", "boot.autostart.priority": strconv.Itoa(i % 3)})
	}
	w.boot()
	l := w.svc.Events.Listen("lifecycle")
	defer l.Close()
	w.autostart()
	var got []int
	for len(got) < 3*each {
		var m api.EventLifecycle
		must(t, json.Unmarshal((<-l.C).Metadata, &m))
		if m.Action == "instance-started" {
			got = append(got, want[path.Base(m.Source)])
		}
	}
	if !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) {
		t.Errorf("they started with priorities %v", got)
	}
}
