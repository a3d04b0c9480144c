package rest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cuib/cuib/shared/api"
)

// fakePublish has a forward and a load balancer of any address.
type fakePublish struct{ calls }

func (*fakePublish) Forwards(context.Context, string) ([]api.NetworkForward, error) {
	return []api.NetworkForward{{ListenAddress: "192.0.2.1"}}, nil
}

func (*fakePublish) Forward(_ context.Context, _, address string) (api.NetworkForward, error) {
	return api.NetworkForward{ListenAddress: address}, nil
}

func (f *fakePublish) CreateForward(_ context.Context, network string, req api.NetworkForwardsPost) error {
	f.add(fmt.Sprintf("create forward %s of %s", req.ListenAddress, network))
	return nil
}

func (f *fakePublish) UpdateForward(_ context.Context, network, address string, put api.NetworkForwardPut) error {
	f.add(fmt.Sprintf("update forward %s of %s: %s", address, network, put.Description))
	return nil
}

func (f *fakePublish) DeleteForward(_ context.Context, network, address string) error {
	f.add(fmt.Sprintf("delete forward %s of %s", address, network))
	return nil
}

func (*fakePublish) LoadBalancers(context.Context, string) ([]api.NetworkLoadBalancer, error) {
	return []api.NetworkLoadBalancer{{ListenAddress: "192.0.2.1"}}, nil
}

func (*fakePublish) LoadBalancer(_ context.Context, _, address string) (api.NetworkLoadBalancer, error) {
	return api.NetworkLoadBalancer{ListenAddress: address}, nil
}

func (*fakePublish) LoadBalancerState(context.Context, string, string) (api.NetworkLoadBalancerState, error) {
	return api.NetworkLoadBalancerState{}, nil
}

func (f *fakePublish) CreateLoadBalancer(_ context.Context, network string, req api.NetworkLoadBalancersPost) error {
	f.add(fmt.Sprintf("create balancer %s of %s", req.ListenAddress, network))
	return nil
}

func (f *fakePublish) UpdateLoadBalancer(_ context.Context, network, address string, put api.NetworkLoadBalancerPut) error {
	f.add(fmt.Sprintf("update balancer %s of %s: %s", address, network, put.Description))
	return nil
}

func (f *fakePublish) DeleteLoadBalancer(_ context.Context, network, address string) error {
	f.add(fmt.Sprintf("delete balancer %s of %s", address, network))
	return nil
}

func TestPublished(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		call               string
	}{
		"create a forward":  {"POST", "/1.0/networks/n1/forwards", `{"listen_address":"192.0.2.1"}`, 201, "create forward 192.0.2.1 of n1"},
		"change a forward":  {"PATCH", "/1.0/networks/n1/forwards/192.0.2.1", `{"description":"new"}`, 200, "update forward 192.0.2.1 of n1: new"},
		"delete a forward":  {"DELETE", "/1.0/networks/n1/forwards/192.0.2.1", "", 200, "delete forward 192.0.2.1 of n1"},
		"create a balancer": {"POST", "/1.0/networks/n1/load-balancers", `{"listen_address":"fd00::1"}`, 201, "create balancer fd00::1 of n1"},
		"change a balancer": {"PUT", "/1.0/networks/n1/load-balancers/fd00::1", `{"description":"new"}`, 200, "update balancer fd00::1 of n1: new"},
		"delete a balancer": {"DELETE", "/1.0/networks/n1/load-balancers/fd00::1", "", 200, "delete balancer fd00::1 of n1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			f := &fakePublish{}
			s.Publish = f
			if a := s.do(tt.method, tt.path, tt.body); a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
			if got := f.last(); got != tt.call {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
		})
	}
}
