package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeZones has the zone z1 with the record r1.
type fakeZones struct{ calls }

func (*fakeZones) List(context.Context) ([]api.NetworkZone, error) {
	return []api.NetworkZone{{Name: "z1"}}, nil
}

func (*fakeZones) Get(_ context.Context, name string) (api.NetworkZone, error) {
	if name != "z1" {
		return api.NetworkZone{}, errs.NotFoundf("network zone %q not found", name)
	}
	return api.NetworkZone{Name: name, NetworkZonePut: api.NetworkZonePut{Config: api.ConfigMap{"user.a": "1"}}}, nil
}

func (f *fakeZones) Create(_ context.Context, req api.NetworkZonesPost) error {
	f.add(fmt.Sprintf("create %s %s", req.Name, req.Config["user.b"]))
	return nil
}

func (f *fakeZones) Update(_ context.Context, name string, put api.NetworkZonePut) error {
	f.add(fmt.Sprintf("update %s %s %s", name, put.Config["user.a"], put.Config["user.b"]))
	return nil
}

func (f *fakeZones) Delete(_ context.Context, name string) error {
	f.add(fmt.Sprintf("delete %s", name))
	return nil
}

func (*fakeZones) Records(context.Context, string) ([]api.NetworkZoneRecord, error) {
	return []api.NetworkZoneRecord{{Name: "r1"}}, nil
}

func (*fakeZones) Record(_ context.Context, zone, name string) (api.NetworkZoneRecord, error) {
	return api.NetworkZoneRecord{Name: name, NetworkZoneRecordPut: api.NetworkZoneRecordPut{Description: "of " + zone}}, nil
}

func (f *fakeZones) CreateRecord(_ context.Context, zone string, req api.NetworkZoneRecordsPost) error {
	f.add(fmt.Sprintf("create %s in %s", req.Name, zone))
	return nil
}

func (f *fakeZones) UpdateRecord(_ context.Context, zone, name string, put api.NetworkZoneRecordPut) error {
	f.add(fmt.Sprintf("update %s in %s: %s, %d", name, zone, put.Description, len(put.Entries)))
	return nil
}

func (f *fakeZones) DeleteRecord(_ context.Context, zone, name string) error {
	f.add(fmt.Sprintf("delete %s in %s", name, zone))
	return nil
}

func TestZones(t *testing.T) {
	s := serve(t)
	z := &fakeZones{}
	s.Zones = z
	const zone, record = "/1.0/network-zones/z1", "/1.0/network-zones/z1/records/r1"
	for _, tt := range []struct {
		method, path, body string
		status             int
		want, call         string
	}{
		{"GET", "/1.0/network-zones", "", 200, `["/1.0/network-zones/z1"]`, ""},
		{"GET", "/1.0/network-zones?recursion=1&all-projects=true", "", 200, `"name":"z1"`, ""},
		{"POST", "/1.0/network-zones", `{"name":"z2","config":{"user.b":"2"}}`, 201, "", "create z2 2"},
		{"GET", zone, "", 200, `"user.a":"1"`, ""},
		{"GET", "/1.0/network-zones/gone", "", 404, "not found", ""},
		{"PUT", zone, `{"config":{"user.b":"2"}}`, 200, "", "update z1  2"},
		{"PATCH", zone, `{"config":{"user.b":"2"}}`, 200, "", "update z1 1 2"},
		{"DELETE", zone, "", 200, "", "delete z1"},
		{"GET", zone + "/records", "", 200, `["/1.0/network-zones/z1/records/r1"]`, ""},
		{"GET", zone + "/records?recursion=1", "", 200, `"name":"r1"`, ""},
		{"POST", zone + "/records", `{"name":"@"}`, 201, "", "create @ in z1"},
		{"GET", record, "", 200, `"description":"of z1"`, ""},
		{"PUT", record, `{"description":"d","entries":[{"type":"A","value":"192.0.2.1"}]}`, 200, "", "update r1 in z1: d, 1"},
		{"PATCH", record, `{"entries":[]}`, 200, "", "update r1 in z1: of z1, 0"},
		{"PATCH", record, `{"entries":"x"}`, 400, "array", ""},
		{"DELETE", "/1.0/network-zones/z1/records/%40", "", 200, "", "delete @ in z1"},
	} {
		a := s.do(tt.method, tt.path, tt.body)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) || tt.call != "" && z.last() != tt.call {
			t.Errorf("%s %s: %d %s, called %q", tt.method, tt.path, a.status, a.body, z.last())
		}
	}
	tag := s.do("GET", zone, "").header.Get("ETag")
	if a := s.do("PUT", zone, `{}`, "If-Match", tag); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do("PUT", zone, `{}`, "If-Match", "x"); a.status != http.StatusPreconditionFailed {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestFollow has somebody follow a key, and refuse a value.
func TestFollow(t *testing.T) {
	s := serve(t)
	var told []string
	s.Follow = map[string]func(context.Context, string) error{
		"core.dns_address": func(_ context.Context, v string) error {
			told = append(told, v)
			if v == "127.0.0.1:9" {
				return errs.Conflictf("something else listens")
			}
			return nil
		},
		"user.last": func(_ context.Context, v string) error {
			if v == "bad" {
				return errs.Invalidf("bad")
			}
			return nil
		},
	}
	for _, tt := range []struct {
		body   string
		status int
		kept   string
		told   string
	}{
		{`{"config":{"core.dns_address":"127.0.0.1:1"}}`, 200, "127.0.0.1:1", "127.0.0.1:1"},
		{`{"config":{"core.dns_address":"127.0.0.1:1","user.b":"2"}}`, 200, "127.0.0.1:1", ""},
		{`{"config":{"core.dns_address":"127.0.0.1:9"}}`, 409, "127.0.0.1:1", "127.0.0.1:9"},
		{`{"config":{"core.dns_address":"nowhere"}}`, 400, "127.0.0.1:1", ""},
		{`{"config":{"core.dns_address":":2","user.last":"bad"}}`, 400, "127.0.0.1:1", ":2 127.0.0.1:1"}, // It goes back.
		{`{"config":{"core.wrong":"b"}}`, 400, "127.0.0.1:1", ""},
		{`{"config":{"core.dns_address":""}}`, 200, "", " "},
	} {
		told = nil
		a := s.do("PATCH", "/1.0", tt.body)
		config, err := s.config.Config(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told, " "); a.status != tt.status || config["core.dns_address"] != tt.kept || got != strings.TrimSpace(tt.told) {
			t.Errorf("%s: %d %s, kept %q, told %q", tt.body, a.status, a.body, config["core.dns_address"], got)
		}
	}
	if a := s.do("PATCH", "/1.0", `{"config":{"core.wrong":"b"}}`); !strings.Contains(a.body, "core.dns_address") {
		t.Errorf("got %s", a.body)
	}
}
