package rest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakePeering has the peer p1 of each network.
type fakePeering struct{ calls }

func (*fakePeering) Peers(context.Context, string) ([]api.NetworkPeer, error) {
	return []api.NetworkPeer{{Name: "p1"}}, nil
}

func (*fakePeering) Peer(_ context.Context, network, name string) (api.NetworkPeer, error) {
	if name != "p1" {
		return api.NetworkPeer{}, errs.NotFoundf("network peer %q of network %q not found", name, network)
	}
	return api.NetworkPeer{Name: name, NetworkPeerPut: api.NetworkPeerPut{Description: "old", Config: api.ConfigMap{"user.a": "1"}}}, nil
}

func (f *fakePeering) Create(_ context.Context, network string, req api.NetworkPeersPost) error {
	f.add(fmt.Sprintf("create %s of %s to %s", req.Name, network, req.TargetNetwork))
	return nil
}

func (f *fakePeering) Update(_ context.Context, network, name string, put api.NetworkPeerPut) error {
	f.add(fmt.Sprintf("update %s of %s: %s %s %s", name, network, put.Description, put.Config["user.a"], put.Config["user.b"]))
	return nil
}

func (f *fakePeering) Delete(_ context.Context, network, name string) error {
	f.add(fmt.Sprintf("delete %s of %s", name, network))
	return nil
}

func TestPeers(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want, call         string
	}{
		"list":   {"GET", "/1.0/networks/n1/peers", "", 200, `"/1.0/networks/n1/peers/p1"`, ""},
		"all":    {"GET", "/1.0/networks/n1/peers?recursion=1", "", 200, `"name":"p1"`, ""},
		"show":   {"GET", "/1.0/networks/n1/peers/p1", "", 200, `"name":"p1"`, ""},
		"none":   {"GET", "/1.0/networks/n1/peers/p2", "", 404, `not found`, ""},
		"create": {"POST", "/1.0/networks/n1/peers", `{"name":"p2","target_network":"n2"}`, 201, ``, "create p2 of n1 to n2"},
		"put":    {"PUT", "/1.0/networks/n1/peers/p1", `{"description":"new"}`, 200, ``, "update p1 of n1: new  "},
		"patch":  {"PATCH", "/1.0/networks/n1/peers/p1", `{"config":{"user.b":"2"}}`, 200, ``, "update p1 of n1: old 1 2"},
		"delete": {"DELETE", "/1.0/networks/n1/peers/p1", "", 200, ``, "delete p1 of n1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			f := &fakePeering{}
			s.Peering = f
			a := s.do(tt.method, tt.path, tt.body)
			if a.status != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", a.status, a.body, tt.status, tt.want)
			}
			if got := f.last(); got != tt.call {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
		})
	}
}
