package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/images"
)

// TestImageSecret makes a secret, which is good for one export of its image.
func TestImageSecret(t *testing.T) {
	s := serve(t)
	a := s.do("POST", "/1.0/images/abc/secret", "")
	var op struct {
		Metadata struct {
			Class     string
			MayCancel bool `json:"may_cancel"`
			Metadata  struct{ Secret string }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &op); err != nil || a.status != 202 {
		t.Fatalf("make: %+v %v", a, err)
	}
	secret := op.Metadata.Metadata.Secret
	if op.Metadata.Class != "token" || !op.Metadata.MayCancel || len(secret) < 20 {
		t.Errorf("operation: %s", a.body)
	}
	for _, step := range []struct {
		secret string
		status int
	}{{"wrong", 404}, {secret, 200}, {secret, 404}, {"", 200}} {
		s.images.files = []images.File{imageFile(t, "u.tar.gz", "")}
		if a := s.do("GET", "/1.0/images/abc/export?secret="+step.secret, ""); a.status != step.status {
			t.Errorf("export with %q: %d, want %d", step.secret, a.status, step.status)
		}
	}
	if a := s.do("POST", "/1.0/images/none/secret", ""); a.status != 404 {
		t.Errorf("no such image: %+v", a)
	}
	if a := s.do("POST", "/1.0/images/abc/other", ""); a.status != 404 {
		t.Errorf("no such part: %+v", a)
	}
}

// TestImageSecretAtOnce has several clients use one secret at the same time: one
// gets the image.
func TestImageSecretAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for range 20 {
		var op struct {
			Metadata struct {
				Metadata struct{ Secret string }
			}
		}
		if err := json.Unmarshal([]byte(s.do("POST", "/1.0/images/abc/secret", "").body), &op); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var got atomic.Int32
		for range 8 {
			wg.Go(func() {
				if a := s.do("GET", "/1.0/images/abc/export?secret="+op.Metadata.Metadata.Secret, ""); a.status != http.StatusNotFound {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if n := got.Load(); n != 1 {
			t.Fatalf("%d clients got the image", n)
		}
	}
}

// TestImagePush has a project await an image, which another one pushes to it
// once.
func TestImagePush(t *testing.T) {
	s := serve(t)
	await := func(body string) string {
		t.Helper()
		a := s.do("POST", "/1.0/images?project=p", body)
		var op struct {
			Metadata struct {
				Class    string
				Metadata struct{ Secret string }
			}
		}
		if err := json.Unmarshal([]byte(a.body), &op); err != nil || a.status != 202 || op.Metadata.Class != "token" || len(op.Metadata.Metadata.Secret) < 20 {
			t.Fatalf("await: %+v %v", a, err)
		}
		return op.Metadata.Metadata.Secret
	}
	secret := await(`{"source":{"mode":"push","fingerprint":"abc"},"aliases":[{"name":"x"}]}`)
	other := await(`{"source":{"type":"image","mode":"push","fingerprint":"def"}}`)
	for _, step := range []struct {
		path, target, secret string
		status               int
		want                 string
	}{
		{"abc", "https://192.0.2.1:8443", secret, 501, "https://192.0.2.1:8443"},
		{"abc", "http://unix.socket", "wrong", 404, "the secret is not one of image"},
		{"abc", "http://unix.socket", other, 404, "the secret is not one of image"},
		{"none", "http://unix.socket", secret, 404, "not found"},
		{"abc", "http://unix.socket", secret, 202, "Making image"},
		{"abc", "http://unix.socket", secret, 404, "was used already"},
	} {
		a := s.do("POST", "/1.0/images/"+step.path+"/export", fmt.Sprintf(`{"target":%q,"secret":%q}`, step.target, step.secret))
		if a.status != step.status || !strings.Contains(a.body, step.want) {
			t.Errorf("%+v: %d %s", step, a.status, a.body)
		}
	}
	if got := s.images.last(); got != "make image p default" {
		t.Errorf("the service was asked to %q", got)
	}
	if a := s.do("POST", "/1.0/images", `{"source":{"mode":"push"}}`); a.status != 400 || !strings.Contains(a.body, "source.fingerprint") {
		t.Errorf("nothing to await: %+v", a)
	}
}
