package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeACLs has the ACL a1, which has logged something.
type fakeACLs struct{ calls }

func (*fakeACLs) List(context.Context) ([]api.NetworkACL, error) {
	return []api.NetworkACL{{Name: "a1"}}, nil
}

func (*fakeACLs) Get(_ context.Context, name string) (api.NetworkACL, error) {
	if name != "a1" {
		return api.NetworkACL{}, errs.NotFoundf("network ACL %q not found", name)
	}
	return api.NetworkACL{Name: name, NetworkACLPut: api.NetworkACLPut{Ingress: []api.NetworkACLRule{{Action: "allow"}}}}, nil
}

func (f *fakeACLs) Create(_ context.Context, req api.NetworkACLsPost) error {
	f.add("create", req.Name)
	return nil
}

func (f *fakeACLs) Update(_ context.Context, name string, put api.NetworkACLPut) error {
	f.add(fmt.Sprintf("update %s: %q, %d, %d", name, put.Description, len(put.Ingress), len(put.Egress)))
	return nil
}

func (f *fakeACLs) Rename(_ context.Context, name, to string) error {
	f.add("rename", name, to)
	return nil
}

func (f *fakeACLs) Delete(_ context.Context, name string) error {
	f.add("delete", name)
	return nil
}

func (f *fakeACLs) Log(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := f.Get(ctx, name); err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader("logged\n")), nil
}

func (*fakeACLs) State(context.Context, string) (api.NetworkACLState, error) {
	return api.NetworkACLState{Rules: []api.NetworkACLCount{{Where: "network n1", Packets: 7}}}, nil
}

// fakeAddressSets has the address set s1.
type fakeAddressSets struct{ calls }

func (*fakeAddressSets) List(context.Context) ([]api.NetworkAddressSet, error) {
	return []api.NetworkAddressSet{{Name: "s1"}}, nil
}

func (*fakeAddressSets) Get(_ context.Context, name string) (api.NetworkAddressSet, error) {
	return api.NetworkAddressSet{Name: name, NetworkAddressSetPut: api.NetworkAddressSetPut{Addresses: []string{"192.0.2.1"}}}, nil
}

func (f *fakeAddressSets) Create(_ context.Context, req api.NetworkAddressSetsPost) error {
	f.add("create", req.Name)
	return nil
}

func (f *fakeAddressSets) Update(_ context.Context, name string, put api.NetworkAddressSetPut) error {
	f.add(fmt.Sprintf("update %s: %q, %v", name, put.Description, put.Addresses))
	return nil
}

func (f *fakeAddressSets) Rename(_ context.Context, name, to string) error {
	f.add("rename", name, to)
	return nil
}

func (f *fakeAddressSets) Delete(_ context.Context, name string) error {
	f.add("delete", name)
	return nil
}

func TestACLs(t *testing.T) {
	s := serve(t)
	acls, sets := &fakeACLs{}, &fakeAddressSets{}
	s.ACLs, s.AddressSets = acls, sets
	const acl, set = "/1.0/network-acls/a1", "/1.0/network-address-sets/s1"
	for _, tt := range []struct {
		of                 interface{ last() string }
		method, path, body string
		status             int
		want, call         string
	}{
		{acls, "GET", "/1.0/network-acls", "", 200, `["/1.0/network-acls/a1"]`, ""},
		{acls, "GET", "/1.0/network-acls?recursion=1&all-projects=true", "", 200, `"name":"a1"`, ""},
		{acls, "POST", "/1.0/network-acls", `{"name":"a2"}`, 201, "", "create a2"},
		{acls, "GET", acl, "", 200, `"action":"allow"`, ""},
		{acls, "GET", "/1.0/network-acls/gone", "", 404, "not found", ""},
		{acls, "PUT", acl, `{"description":"d","egress":[{"action":"drop"}]}`, 200, "", `update a1: "d", 0, 1`},
		{acls, "PATCH", acl, `{"description":"d"}`, 200, "", `update a1: "d", 1, 0`},
		{acls, "POST", acl, `{"name":"a2"}`, 201, "", "rename a1 a2"},
		{acls, "DELETE", acl, "", 200, "", "delete a1"},
		{acls, "GET", acl + "/log", "", 200, "logged", ""},
		{acls, "GET", "/1.0/network-acls/gone/log", "", 404, "not found", ""},
		{acls, "GET", acl + "/state", "", 200, `"packets":7`, ""},
		{sets, "GET", "/1.0/network-address-sets", "", 200, `["/1.0/network-address-sets/s1"]`, ""},
		{sets, "POST", "/1.0/network-address-sets", `{"name":"s2"}`, 201, "", "create s2"},
		{sets, "GET", set, "", 200, `"addresses":["192.0.2.1"]`, ""},
		{sets, "PUT", set, `{"addresses":["192.0.2.2"]}`, 200, "", `update s1: "", [192.0.2.2]`},
		{sets, "PATCH", set, `{"description":"d"}`, 200, "", `update s1: "d", [192.0.2.1]`},
		{sets, "POST", set, `{"name":"s2"}`, 201, "", "rename s1 s2"},
		{sets, "DELETE", set, "", 200, "", "delete s1"},
	} {
		a := s.do(tt.method, tt.path, tt.body)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) || tt.call != "" && tt.of.last() != tt.call {
			t.Errorf("%s %s: %d %s, called %q", tt.method, tt.path, a.status, a.body, tt.of.last())
		}
	}
	if a := s.do("PUT", acl, `{}`, "If-Match", "x"); a.status != http.StatusPreconditionFailed {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// brokenACLs have a log that cannot be read to its end.
type brokenACLs struct{ fakeACLs }

func (*brokenACLs) Log(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(errors.New("boom")))), nil
}

// TestReadFails has a client see that what it got is not all.
func TestReadFails(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.ACLs = &brokenACLs{}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cuib/1.0/network-acls/web/log", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("the answer ends as if it were whole")
	}
}
