package netdocs_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/peering"
	"github.com/cuib/cuib/lxd-like/internal/publish"
	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/fake"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// bare is a host without networks of its own.
type bare struct{}

func (bare) Links() ([]host.Link, error)         { return nil, nil }
func (bare) Used(string) ([]netip.Prefix, error) { return nil, nil }
func (bare) Uses(string) ([]host.Use, error)     { return nil, nil }
func (bare) HasIPv6() bool                       { return true }
func (bare) Find(name string) (host.Link, error) {
	return host.Link{}, errs.NotFoundf("network interface %q not found", name)
}

func newService(t *testing.T) *netdocs.Service {
	t.Helper()
	database, dir, log, hub := dbtest.New(t), t.TempDir(), slog.New(slog.DiscardHandler), &events.Hub{}
	n := &nets.Service{DB: database, Dir: dir, Host: bare{}, Events: hub, Log: log, Drivers: map[string]networks.Driver{"bridge": &fake.Driver{}}}
	s := &netdocs.Service{
		Nets: n, Zones: &zones.Service{DB: database, Nets: n, Events: hub, Log: log},
		ACLs:    &acls.Service{DB: database, Dir: dir, Nets: n, Ports: nft.NewACLPorts("/netdocs_test"), Events: hub, Logger: log},
		Publish: &publish.Service{DB: database, Nets: n, Events: hub, Log: log},
		Peering: &peering.Service{DB: database, Nets: n, Events: hub},
	}
	n.Parts = []nets.Part{s.ACLs.Part, s.Publish.Part, s.Peering.Part}
	n.Checks = []nets.Check{s.Zones.CheckNetwork, s.ACLs.Check, s.Publish.Check}
	return s
}

// description is of two networks that are peers. An ACL is about another that is
// made later, about a network, and about an instance that is not there.
const description = `networks_version: 1
networks:
- config:
    dns.zone.forward: example.org
    ipv4.address: 10.1.1.1/24
    ipv4.nat: "true"
    ipv6.address: none
    security.acls: web
  description: the first
  name: one
  type: bridge
- config:
    ipv4.address: 10.1.2.1/24
    ipv6.address: none
  name: two
  type: bridge
network_parts:
- network: one
  forwards:
  - config:
      user.a: b
    description: to web
    listen_address: 192.0.2.1
    ports:
    - {description: "", listen_port: "80", protocol: tcp, target_address: 10.1.1.9, target_port: ""}
  load_balancers:
  - listen_address: 192.0.2.2
    backends:
    - {name: a, target_address: 10.1.1.8}
    ports:
    - {listen_port: "80", protocol: tcp, target_backend: [a]}
  peers:
  - {name: p, target_network: two, type: local, description: next door}
- network: two
  peers:
  - {name: p, target_network: one, type: local}
network_address_sets:
- {name: office, addresses: [192.0.2.0/24]}
network_acls:
- name: all
  ingress:
  - {action: allow, state: enabled, source: "web,network/one,instance/db,$office"}
- name: web
  description: who may come
  egress:
  - {action: drop, state: logged, destination: "@external"}
network_zones:
- name: example.org
  config:
    peers.ns.address: 192.0.2.53
  records:
  - name: www
    entries:
    - {type: A, value: 192.0.2.80, ttl: 60}
`

func parse(t *testing.T, text string) (d api.NetworksDocument) {
	t.Helper()
	must(t, api.UnmarshalYAML([]byte(text), &d))
	return d
}

// text is what a service describes.
func text(t *testing.T, s *netdocs.Service) string {
	t.Helper()
	d, err := s.Document(t.Context())
	must(t, err)
	out, err := api.MarshalYAML(d)
	must(t, err)
	return string(out)
}

// reinstate returns what was made, and what failed.
func reinstate(t *testing.T, s *netdocs.Service, d api.NetworksDocument, whole map[string]bool) (made []string, err error) {
	t.Helper()
	s.Reinstate(t.Context(), netdocs.Reinstatement{Document: d, Complete: whole["complete"], Note: func(what string, e error) {
		if e == nil {
			made = append(made, what)
		}
		err = errors.Join(err, e)
	}})
	return made, err
}

// TestAllComesBack makes networks of a description, and of what they describe
// then: it is the same.
func TestAllComesBack(t *testing.T) {
	t.Parallel()
	first, second := newService(t), newService(t)
	made, err := reinstate(t, first, parse(t, description), nil)
	must(t, err)
	const all = `network address set office
network ACL all
network ACL web
network zone example.org
record www of network zone example.org
network one
network two
forward 192.0.2.1 of network one
load balancer 192.0.2.2 of network one
peer p of network one
peer p of network two`
	if got := strings.Join(made, "\n"); got != all {
		t.Errorf("made\n%s", got)
	}
	d := text(t, first)
	for _, want := range []string{"the first", "to web", "next door", "who may come", "instance/db", "peers.ns.address", "ttl: 60", "target_backend", "security.acls: web"} {
		if !strings.Contains(d, want) {
			t.Errorf("there is no %q in\n%s", want, d)
		}
	}
	_, err = reinstate(t, second, parse(t, d), nil)
	must(t, err)
	if got := text(t, second); got != d {
		t.Errorf("got\n%s\nwant\n%s", got, d)
	}
	if p, err := second.Peering.Peer(t.Context(), "two", "p"); err != nil || p.Status != api.PeerCreated {
		t.Errorf("got %+v, %v", p, err)
	}

	// What is there is left alone, and what was taken away only comes back if
	// it is to.
	must(t, second.Publish.DeleteForward(t.Context(), "one", "192.0.2.1"))
	for _, whole := range []map[string]bool{nil, {"complete": true}, {"complete": true}} {
		made, err := reinstate(t, second, parse(t, d), whole)
		must(t, err)
		_, err = second.Publish.Forward(t.Context(), "one", "192.0.2.1")
		if whole == nil != errs.Is(err, errs.NotFound) || whole == nil && len(made) > 0 {
			t.Errorf("complete: %v: made %v, and the forward: %v", whole, made, err)
		}
	}
	if got := text(t, second); got != d {
		t.Errorf("got\n%s\nwant\n%s", got, d)
	}
}

// TestVersions reads descriptions of older and newer daemons.
func TestVersions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	old := parse(t, "networks: [{name: one, type: bridge, managed: true, config: {ipv4.address: 10.1.1.1/24, ipv6.address: none}}]\nprofiles: []\n")
	made, err := reinstate(t, s, old, nil)
	if must(t, err); strings.Join(made, " ") != "network one" {
		t.Errorf("made %v", made)
	}
	later := parse(t, strings.Replace(description, "networks_version: 1", "networks_version: 9\nnetwork_fancies: [{name: x}]", 1))
	made, err = reinstate(t, newService(t), later, nil)
	if len(made) != 11 || !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("made %v, %v", made, err)
	}
}

// TestWhatFails does not keep the rest from being made.
func TestWhatFails(t *testing.T) {
	t.Parallel()
	d := parse(t, description)
	d.Networks[0].Type = "ring"
	d.AddressSets[0].Addresses = []string{"somewhere"}
	s := newService(t)
	made, err := reinstate(t, s, d, nil)
	if len(made) != 5 || err == nil {
		t.Errorf("made %v, %v", made, err)
	}
	if p, err := s.Peering.Peers(context.WithoutCancel(t.Context()), "two"); err != nil || len(p) != 0 {
		t.Errorf("got %v, %v", p, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
