package instances_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// TestUnknownVolume makes instances where the pool has the volume of one that
// the database lost.
func TestUnknownVolume(t *testing.T) {
	w := newWorld(t)
	doc := w.document()
	lost := storage.Volume{Kind: storage.Instance, Name: "c1"}
	must(t, w.pool.Create(t.Context(), lost))
	for what, act := range map[string]func() error{
		"create": func() error {
			_, err := w.do(w.svc.Create(t.Context(), post("c1", false)))
			return err
		},
		"reinstate": func() error {
			return w.svc.Reinstate(t.Context(), instances.Reinstatement{Document: doc, Fill: fills()}, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := act(); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "cuib admin recover") {
				t.Errorf("got %v", err)
			}
			w.boot()
			all, err := w.pool.List(t.Context())
			must(t, err)
			if !slices.Contains(all, lost) {
				t.Errorf("the pool holds %v", all)
			}
		})
	}
}
