package rest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
)

func TestDiffOfAnyLength(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3, 100000} {
		s := serve(t)
		s.instances.changes = n
		got := s.do("GET", "/1.0/instances/c1/diff?from=s0&to=s1", "")
		var envelope struct {
			Metadata []api.FileChange `json:"metadata"`
		}
		err := json.Unmarshal([]byte(got.body), &envelope)
		if err != nil || got.status != http.StatusOK || got.Type != "sync" || envelope.Metadata == nil || len(envelope.Metadata) != n {
			t.Errorf("%d changes: %v, %d, %d", n, err, got.status, len(envelope.Metadata))
		}
		if call := s.instances.last(); call != "diff c1 s0 s1" {
			t.Errorf("it was asked to %q", call)
		}
	}
}

func TestDiffFails(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.instances.changes, s.instances.err = 3, errors.New("boom")
	if got := s.do("GET", "/1.0/instances/c1/diff", ""); got.status != http.StatusInternalServerError || !strings.Contains(got.body, "boom") {
		t.Errorf("before the first is written: %d %s", got.status, got.body)
	}
	s.instances.changes = 100000
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cuib/1.0/instances/c1/diff", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("after that: the answer ends as if it were whole")
	}
}
