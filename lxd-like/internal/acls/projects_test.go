package acls_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// newProjects has the same names in the default project and in another.
func newProjects(t *testing.T) env {
	t.Helper()
	e := newEnv(t)
	on := func(address string) map[string]string { return map[string]string{"ipv4.address": address} }
	e.must(e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		p := db.Pool{Name: "p", Driver: "dir", Status: db.Ready}
		err := errors.Join(
			db.AddPool(ctx, tx, &p),
			db.AddNetwork(ctx, tx, &db.Network{Name: "lab", Type: "bridge", Status: db.Ready, Config: on("10.1.2.1/24")}),
			db.AddNetwork(ctx, tx, &db.Network{Name: "p%lab", Type: "bridge", Status: db.Ready, Config: on("10.1.3.1/24")}),
		)
		for _, name := range []string{"c1", "p_c1", "p_c2"} {
			nic := map[string]string{"type": "nic", "network": "lab"}
			in := db.Instance{Name: name, PoolID: p.ID, Status: db.Ready, Profiles: []string{"default"}, Devices: map[string]map[string]string{"eth0": nic}}
			err = errors.Join(err, db.AddInstance(ctx, tx, &in))
		}
		return err
	}))
	for i, name := range []string{"c1", "p_c1", "p_c2"} {
		e.nets.addresses = append(e.nets.addresses, nets.Address{Name: name, Address: netip.AddrFrom4([4]byte{10, 1, 2, byte(11 + i)})})
	}
	for _, key := range []string{"office", "p%office"} {
		e.must(e.Sets().Create(t.Context(), api.NetworkAddressSetsPost{Name: key}))
	}
	e.must(e.create("friends"))
	e.must(e.create("p%friends"))
	e.must(e.Recover(t.Context()))
	return e
}

// subjects are the names that the only rule of an ACL has in a book.
func (e env) subjects(name, network string) []string {
	e.t.Helper()
	p, err := e.Policy(e.t.Context(), acl.Ref{Network: network, ACLs: []string{name}})
	e.must(err)
	if len(p.Ingress.Rules) != 1 {
		e.t.Fatalf("%s has rules %+v", name, p.Ingress)
	}
	return p.Ingress.Rules[0].Source.Names
}

func TestSubjectsOfProjects(t *testing.T) {
	e := newProjects(t)
	allow := func(source string) api.NetworkACLRule { return api.NetworkACLRule{Action: "allow", Source: source} }
	e.must(e.create("web", allow("friends,lab,c1,p/c1,instance/p/c2,$office")))
	e.must(e.create("p%web", allow("friends,lab,instance/c1,c2,$office")))
	if got, want := e.subjects("web", "lab"), []string{"acl/friends", "network/lab", "instance/c1", "instance/p_c1", "instance/p_c2", "set/office"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := e.subjects("p%web", "p%lab"), []string{"acl/p%friends", "network/p%lab", "instance/p_c1", "instance/p_c2", "set/p%office"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := e.Addresses("instance/p_c1"); !slices.Equal(got, []acl.Range{acl.OfAddress(netip.MustParseAddr("10.1.2.12"))}) {
		t.Errorf("p_c1 has %v", got)
	}
	if got := e.Addresses("network/p%lab"); !slices.Equal(got, []acl.Range{acl.OfPrefix(netip.MustParsePrefix("10.1.3.0/24"))}) {
		t.Errorf("p%%lab has %v", got)
	}
	for name, sources := range map[string][]string{
		"tried":   {"c2", "q/c1", "p_c1", "p%lab", "$p%office", "acl/p%friends", "p/lab"},
		"p%tried": {"c3", "p/c1", "default/c1", "q/c1", "p_c1", "p%lab"},
	} {
		for _, source := range sources {
			if err := e.create(name, allow(source)); !errs.Is(err, errs.Invalid) {
				t.Errorf("%s: %s: got %v", name, source, err)
			}
		}
	}
	for _, tt := range []struct {
		what string
		used []string
		err  error
	}{
		{"friends", []string{"/1.0/network-acls/web"}, e.Delete(t.Context(), "friends")},
		{"p%friends", []string{"/1.0/network-acls/p%25web"}, e.Rename(t.Context(), "p%friends", "p%other")},
	} {
		got, err := e.Get(t.Context(), tt.what)
		e.must(err)
		if !slices.Equal(got.UsedBy, tt.used) || got.Project != project.Of(tt.what) || !errs.Is(tt.err, errs.Conflict) {
			t.Errorf("%s: got %+v, %v", tt.what, got, tt.err)
		}
	}
	if err := e.Sets().Delete(t.Context(), "p%office"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "network ACL web of project p") {
		t.Errorf("got %v", err)
	}
	if err := e.create("p%1a"); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestRulesFollowNamesOfProjects(t *testing.T) {
	e := newProjects(t)
	allow := func(source string) api.NetworkACLRule { return api.NetworkACLRule{Action: "allow", Source: source} }
	e.must(e.create("web", allow("lab,c1,p/c1")))
	e.must(e.create("p%web", allow("lab,c1,c2")))
	for _, tt := range []struct {
		rename   func(context.Context, *db.Tx, string, string) error
		from, to string
		want, in string // The rule of the default project, and that of the other.
	}{
		{e.InstanceRenamed, "p_c1", "p_d1", "lab,c1,instance/p/d1", "lab,instance/d1,c2"},
		{e.InstanceRenamed, "c1", "d1", "lab,instance/d1,instance/p/d1", "lab,instance/d1,c2"},
		{e.NetworkRenamed, "p%lab", "p%web", "lab,instance/d1,instance/p/d1", "network/web,instance/d1,c2"},
		{e.NetworkRenamed, "lab", "www", "network/www,instance/d1,instance/p/d1", "network/web,instance/d1,c2"},
		// One that moves to another project: who cannot name it there keeps what there was.
		{e.InstanceRenamed, "p_d1", "q_d2", "network/www,instance/d1,instance/q/d2", "network/web,instance/d1,c2"},
		{e.InstanceRenamed, "q_d2", "d2", "network/www,instance/d1,instance/d2", "network/web,instance/d1,c2"},
	} {
		e.must(e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return tt.rename(ctx, tx, tt.from, tt.to) }))
		for name, want := range map[string]string{"web": tt.want, "p%web": tt.in} {
			got, err := e.Get(t.Context(), name)
			e.must(err)
			if got.Ingress[0].Source != want {
				t.Errorf("%s to %s: %s names %s, want %s", tt.from, tt.to, name, got.Ingress[0].Source, want)
			}
		}
	}
}

// TestLogsOfProjects has two ACLs of one name log, and one whose key is longer than
// what the kernel keeps.
func TestLogsOfProjects(t *testing.T) {
	e := newProjects(t)
	long := strings.Repeat("p", 63) + "%" + strings.Repeat("a", 63)
	heard := e.Events.Listen("network-acl")
	defer heard.Close()
	for _, name := range []string{"web", "p%web", long} {
		e.must(e.create(name))
		line := api.NetworkACLLogEntry{Src: name, Network: project.Link("p%lab")}
		e.must(acls.Write(t.Context(), e.Service, nft.LogName(name), line))
		if got := <-heard.C; got.Project != project.Of(name) || !strings.Contains(string(got.Metadata), `"network":"p%lab"`) {
			t.Errorf("%s: got event %+v", name, got)
		}
	}
	for _, name := range []string{"web", "p%web", long} {
		r, err := e.Log(t.Context(), name)
		e.must(err)
		data, err := io.ReadAll(r)
		e.must(errors.Join(err, r.Close()))
		if text := string(data); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"src":"`+name+`"`) || !strings.Contains(text, `"network":"lab"`) {
			t.Errorf("%s: got log %s", name, text)
		}
	}
}
