package rest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeWarnings has one warning, w1.
type fakeWarnings struct{ last string }

func (f *fakeWarnings) warning() api.Warning {
	return api.Warning{
		WarningPut: api.WarningPut{Status: "new"}, UUID: "w1", Type: "Pool away", Severity: "high", Count: 1,
		FirstSeenAt: time.Unix(1, 0).UTC(), EntityURL: "/1.0/storage-pools/p",
	}
}

func (f *fakeWarnings) List(context.Context) ([]api.Warning, error) {
	return []api.Warning{f.warning()}, nil
}

func (f *fakeWarnings) Get(_ context.Context, id string) (api.Warning, error) {
	if id != "w1" {
		return api.Warning{}, errs.NotFoundf("warning %q not found", id)
	}
	return f.warning(), nil
}

func (f *fakeWarnings) Update(_ context.Context, id string, put api.WarningPut) error {
	f.last = "update " + id + " " + put.Status
	return nil
}

func (f *fakeWarnings) Delete(_ context.Context, id string) error {
	f.last = "delete " + id
	return nil
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	const all, one = "/1.0/warnings", "/1.0/warnings/w1"
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		want, call         string
	}{
		"urls":         {"GET", all, "", 200, `["/1.0/warnings/w1"]`, ""},
		"list":         {"GET", all + "?recursion=1", "", 200, `"status":"new"`, ""},
		"one":          {"GET", one, "", 200, `"entity_url":"/1.0/storage-pools/p"`, ""},
		"none":         {"GET", all + "/w2", "", 404, `not found`, ""},
		"put":          {"PUT", one, `{"status":"acknowledged"}`, 200, `Success`, "update w1 acknowledged"},
		"patch":        {"PATCH", one, `{"status":"new"}`, 200, `Success`, "update w1 new"},
		"badly":        {"PUT", one, `{"status":1}`, 400, `status`, ""},
		"delete":       {"DELETE", one, "", 200, `Success`, "delete w1"},
		"no such verb": {"POST", one, "{}", 405, ``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, fake := serve(t), &fakeWarnings{}
			s.Warnings = fake
			a := s.do(test.method, test.path, test.body)
			if a.status != test.status || !strings.Contains(a.body, test.want) || fake.last != test.call {
				t.Errorf("got %d %s, asked %q; want %d, %s, %q", a.status, a.body, fake.last, test.status, test.want, test.call)
			}
		})
	}
}
