package rest_test

import (
	"encoding/json"
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
