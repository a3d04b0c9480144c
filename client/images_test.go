package client_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// kept is a file that ExportImage writes.
type kept struct{ bytes.Buffer }

func (*kept) Close() error { return nil }

func TestExportImage(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0/images/one/export": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Disposition", `attachment; filename="one.tar.gz"`)
			fmt.Fprint(w, "unified")
		},
		"GET /1.0/images/two/export": func(w http.ResponseWriter, _ *http.Request) {
			form := multipart.NewWriter(w)
			w.Header().Set("Content-Type", form.FormDataContentType())
			for _, name := range []string{"meta.tar.xz", "rootfs.squashfs"} {
				part, _ := form.CreateFormFile("metadata", name)
				fmt.Fprint(part, "this is "+name)
			}
			_ = form.Close()
		},
	})
	for name, want := range map[string]map[string]string{
		"one": {"one.tar.gz": "unified"},
		"two": {"meta.tar.xz": "this is meta.tar.xz", "rootfs.squashfs": "this is rootfs.squashfs"},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]*kept{}
			err := c.ExportImage(t.Context(), name, func(file string) (io.WriteCloser, error) {
				got[file] = &kept{}
				return got[file], nil
			})
			if err != nil || len(got) != len(want) {
				t.Fatalf("ExportImage: %v, %d files", err, len(got))
			}
			for file, text := range want {
				if got[file] == nil || got[file].String() != text {
					t.Errorf("%s is %v, want %q", file, got[file], text)
				}
			}
		})
	}
	if err := c.ExportImage(t.Context(), "none", nil); err == nil {
		t.Error("an image that is not there was exported")
	}
}

func TestUploadStopsWhenTheDaemonRefuses(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"POST /1.0/images": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			reply(w, "error", nil)
		},
	})
	endless := io.MultiReader(strings.NewReader("x"), &counter{})
	_, err := c.UploadImage(t.Context(), client.ImageUpload{Meta: strings.NewReader("m"), MetaName: "m", Rootfs: endless, RootfsName: "r"})
	if err == nil {
		t.Error("the upload of an endless file succeeded")
	}
}

func TestFindImageByAliasOrFingerprint(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0/images/aliases/{name...}": func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("name") != "debian/12" {
				w.WriteHeader(http.StatusNotFound)
				reply(w, "error", nil)
				return
			}
			reply(w, "sync", map[string]string{"target": "abc"})
		},
		"GET /1.0/images/{fingerprint}": func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix("abc", r.PathValue("fingerprint")) {
				w.WriteHeader(http.StatusNotFound)
				reply(w, "error", nil)
				return
			}
			reply(w, "sync", api.Image{Fingerprint: "abc"})
		},
	})
	for _, name := range []string{"debian/12", "ab"} {
		if img, _, err := c.FindImage(t.Context(), name); err != nil || img.Fingerprint != "abc" {
			t.Errorf("%s: %v, %v", name, img.Fingerprint, err)
		}
	}
	if _, _, err := c.FindImage(t.Context(), "x"); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("x: %v", err)
	}
}
