package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// with answers that the daemon has the given extensions.
func with(extensions ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, "sync", map[string]any{"api_extensions": extensions})
	}
}

// done answers with an operation that has ended.
func done(resources map[string][]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, "async", map[string]any{"id": "1", "status_code": 200, "resources": resources})
	}
}

func TestExportIsTheAnswer(t *testing.T) {
	var asked api.InstanceBackupsPost
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0": with("direct_backup"),
		"POST /1.0/instances/web/backups": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "application/octet-stream" {
				t.Errorf("accepts %q", r.Header.Get("Accept"))
			}
			_ = json.NewDecoder(r.Body).Decode(&asked)
			_, _ = io.WriteString(w, "archive")
		},
	})
	var out bytes.Buffer
	err := c.ExportInstance(t.Context(), "web", api.InstanceBackupsPost{InstanceOnly: true, CompressionAlgorithm: "zstd"}, &out)
	if err != nil || out.String() != "archive" {
		t.Fatalf("got %q, %v", out.String(), err)
	}
	if !asked.InstanceOnly || asked.CompressionAlgorithm != "zstd" {
		t.Errorf("asked for %+v", asked)
	}
}

func TestExportByARecord(t *testing.T) {
	for name, tt := range map[string]struct {
		export http.HandlerFunc
		fails  bool
	}{
		"whole": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "archive") }, false},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "arch")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			deleted := make(chan bool, 1)
			c := serve(t, map[string]http.HandlerFunc{
				"GET /1.0": with(),
				"POST /1.0/storage-pools/p/volumes/custom/v/backups": done(map[string][]string{
					"backups": {"/1.0/storage-pools/p/volumes/custom/v/backups/backup0"},
				}),
				"GET /1.0/storage-pools/p/volumes/custom/v/backups/backup0/export": tt.export,
				"DELETE /1.0/storage-pools/p/volumes/custom/v/backups/backup0": func(w http.ResponseWriter, _ *http.Request) {
					deleted <- true
					reply(w, "sync", nil)
				},
			})
			err := c.ExportStorageVolume(t.Context(), data, api.StorageVolumeBackupsPost{}, io.Discard)
			if (err != nil) != tt.fails {
				t.Error(err)
			}
			select {
			case <-deleted:
			default:
				t.Error("the backup is still there")
			}
		})
	}
}

var data = client.Volume{Pool: "p", Type: "custom", Name: "v"}

func TestExportIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan bool)
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0": with("direct_backup"),
		"POST /1.0/instances/web/backups": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "beginning")
			_ = http.NewResponseController(w).Flush()
			cancel()
			<-r.Context().Done() // The daemon hears of it.
			close(gone)
		},
	})
	err := c.ExportInstance(ctx, "web", api.InstanceBackupsPost{}, io.Discard)
	if !errs.Is(err, errs.Canceled) {
		t.Errorf("got %v", err)
	}
	<-gone
}

func TestUploads(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	note := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = string(body)
		for key := range r.Header {
			if rest, ok := strings.CutPrefix(strings.Replace(key, "X-Cuib-", "X-Incus-", 1), "X-Incus-"); ok {
				got[r.URL.Path] += " " + rest + "=" + r.Header.Get(key)
			}
		}
		done(nil)(w, r)
	}
	c := serve(t, map[string]http.HandlerFunc{"POST /1.0/instances": note, "POST /1.0/storage-pools/p/volumes/custom": note})
	ctx := t.Context()
	if _, err := c.ImportInstance(ctx, client.InstanceUpload{
		Archive: strings.NewReader("A"), Devices: api.DevicesMap{"root": {"size": "1GiB"}},
	}); err != nil {
		t.Error(err)
	}
	if _, err := c.ImportStorageVolume(ctx, "p", client.VolumeUpload{Content: strings.NewReader("I"), IsISO: true}); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		"/1.0/instances": "A Devices=root=size%3D1GiB", "/1.0/storage-pools/p/volumes/custom": "I Type=iso",
	} {
		if got[path] != want {
			t.Errorf("%s got %q, want %q", path, got[path], want)
		}
	}
}

func TestChanges(t *testing.T) {
	asked := make(chan string, 4)
	answer := func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RawQuery
		reply(w, "sync", []api.FileChange{{Op: "added", Path: "/x"}})
	}
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0/instances/web/diff": answer, "GET /1.0/storage-pools/p/volumes/custom/v/diff": answer,
	})
	for want, s := range map[string]client.Span{"": {}, "from=a+b&to=c": {From: "a b", To: "c"}} {
		all, err := c.InstanceChanges(t.Context(), "web", s)
		if err != nil || len(all) != 1 || all[0].Path != "/x" {
			t.Errorf("got %v, %v", all, err)
		}
		if q := <-asked; q != want {
			t.Errorf("asked with %q, want %q", q, want)
		}
		if _, err := c.StorageVolumeChanges(t.Context(), data, s); err != nil {
			t.Error(err)
		}
		if q := <-asked; q != want {
			t.Errorf("asked with %q, want %q", q, want)
		}
	}
}

func TestRecoverable(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"POST /internal/recover/validate": func(w http.ResponseWriter, r *http.Request) {
			var req client.RecoverRequest
			_ = json.NewDecoder(r.Body).Decode(&req)
			reply(w, "sync", map[string]any{
				"UnknownVolumes":   []map[string]any{{"name": "web", "pool": req.Pools[0].Name, "snapshotCount": 3}},
				"DependencyErrors": []string{"a profile"},
			})
		},
		"POST /internal/recover/import": func(w http.ResponseWriter, _ *http.Request) { reply(w, "sync", nil) },
	})
	req := client.RecoverRequest{Pools: []api.StoragePoolsPost{{Name: "p"}}}
	found, err := c.FindRecoverable(t.Context(), req)
	if err != nil || len(found.UnknownVolumes) != 1 || found.UnknownVolumes[0].SnapshotCount != 3 || found.UnknownVolumes[0].Pool != "p" ||
		len(found.DependencyErrors) != 1 {
		t.Errorf("got %+v, %v", found, err)
	}
	if err := c.Recover(t.Context(), req); err != nil {
		t.Error(err)
	}
}
