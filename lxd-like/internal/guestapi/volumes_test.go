package guestapi_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
)

// slowVolumes are volumes whose making takes until the test ends.
type slowVolumes struct{ end <-chan struct{} }

func (slowVolumes) Pool(context.Context, string, string) (p api.GuestStoragePool, err error) {
	return p, nil
}

func (slowVolumes) List(context.Context, string, string) ([]api.GuestStorageVolume, error) {
	return nil, nil
}

func (slowVolumes) Get(context.Context, string, db.VolumeRef) (v api.GuestStorageVolume, err error) {
	return v, nil
}

func (v slowVolumes) Create(context.Context, string, string, api.GuestStorageVolumesPost) error {
	<-v.end
	return nil
}

func (slowVolumes) Update(context.Context, string, db.VolumeRef, api.GuestStorageVolumePut) error {
	return nil
}
func (slowVolumes) Delete(context.Context, string, db.VolumeRef) error { return nil }
func (slowVolumes) Devices(context.Context, string) (i api.GuestInstance, err error) {
	return i, nil
}
func (slowVolumes) SetDevices(context.Context, string, api.GuestInstancePatch) error { return nil }

// TestSlowChanges shows that a guest keeps nobody but itself waiting when it
// takes its time to say what it wants changed, or that takes its time.
func TestSlowChanges(t *testing.T) {
	t.Parallel()
	const post = "POST /1.0/storage-pools/p/volumes HTTP/1.1\r\nHost: lxd\r\nContent-Length: 12\r\n\r\n"
	for name, body := range map[string]string{"never says what": `{"name"`, "wants much": `{"name":"v"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end := make(chan struct{})
			w := newWorldWith(t, &slowVolumes{end})
			t.Cleanup(sync.OnceFunc(func() { close(end) }))
			for range 10 {
				fmt.Fprint(w.connect("c1"), post+body)
			}
			time.Sleep(100 * time.Millisecond) // Until they are there.
			c := w.client("c2")
			c.Timeout = 8 * time.Second // The first one is cut off after 10.
			if code, text, err := w.try(c, http.MethodGet, "/1.0/config", ""); err != nil || code != http.StatusOK {
				t.Errorf("the other guest gets %d, %q, %v", code, text, err)
			}
		})
	}
}
