package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
)

// publishService keeps what leads from addresses of the host into networks.
type publishService interface {
	forwardService
	balancerService
}

type forwardService interface {
	Forwards(ctx context.Context, network string) ([]api.NetworkForward, error)
	Forward(ctx context.Context, network, address string) (api.NetworkForward, error)
	CreateForward(ctx context.Context, network string, req api.NetworkForwardsPost) error
	UpdateForward(ctx context.Context, network, address string, put api.NetworkForwardPut) error
	DeleteForward(ctx context.Context, network, address string) error
}

type balancerService interface {
	LoadBalancers(ctx context.Context, network string) ([]api.NetworkLoadBalancer, error)
	LoadBalancer(ctx context.Context, network, address string) (api.NetworkLoadBalancer, error)
	LoadBalancerState(ctx context.Context, network, address string) (api.NetworkLoadBalancerState, error)
	CreateLoadBalancer(ctx context.Context, network string, req api.NetworkLoadBalancersPost) error
	UpdateLoadBalancer(ctx context.Context, network, address string, put api.NetworkLoadBalancerPut) error
	DeleteLoadBalancer(ctx context.Context, network, address string) error
}

func (s *Server) publishRoutes() []route {
	const (
		forwards  = "/1.0/networks/{network}/forwards"
		forward   = forwards + "/{name}"
		balancers = "/1.0/networks/{network}/load-balancers"
		balancer  = balancers + "/{name}"
	)
	return []route{
		{get, forwards, s.listForwards},
		{post, forwards, s.createForward},
		{get, forward, s.getForward},
		{put, forward, s.putForward},
		{patch, forward, s.patchForward},
		{remove, forward, s.deleteForward},
		{get, balancers, s.listLoadBalancers},
		{post, balancers, s.createLoadBalancer},
		{get, balancer, s.getLoadBalancer},
		{put, balancer, s.putLoadBalancer},
		{patch, balancer, s.patchLoadBalancer},
		{remove, balancer, s.deleteLoadBalancer},
		{get, balancer + "/state", s.getLoadBalancerState},
	}
}

// parentNetwork is the network that the request is about a part of.
func parentNetwork(r *http.Request) string { return r.PathValue("network") }

func forwardURL(r *http.Request, address string) string {
	return networkURL(parentNetwork(r)) + "/forwards/" + url.PathEscape(address)
}

func balancerURL(r *http.Request, address string) string {
	return networkURL(parentNetwork(r)) + "/load-balancers/" + url.PathEscape(address)
}

func (s *Server) listForwards(r *http.Request) (response, error) {
	all, err := s.Publish.Forwards(r.Context(), parentNetwork(r))
	return list(r, all, err, func(f api.NetworkForward) string { return forwardURL(r, f.ListenAddress) })
}

func (s *Server) createForward(r *http.Request) (response, error) {
	body, err := decode[api.NetworkForwardsPost](r)
	if err != nil {
		return nil, err
	}
	return created(forwardURL(r, body.ListenAddress), s.Publish.CreateForward(r.Context(), parentNetwork(r), body))
}

func (s *Server) forward(r *http.Request) (whole, writable any, err error) {
	f, err := s.Publish.Forward(r.Context(), parentNetwork(r), objectName(r))
	return f, f.NetworkForwardPut, err
}

func (s *Server) getForward(r *http.Request) (response, error) { return read(r, s.forward) }

// updateForward changes a forward of the network that a request names.
func (s *Server) updateForward(r *http.Request) updater[api.NetworkForwardPut] {
	return func(ctx context.Context, name string, put api.NetworkForwardPut) error {
		return s.Publish.UpdateForward(ctx, parentNetwork(r), name, put)
	}
}

func (s *Server) putForward(r *http.Request) (response, error) {
	return replace(r, s.forward, s.updateForward(r))
}

func (s *Server) patchForward(r *http.Request) (response, error) {
	return change(r, s.forward, s.updateForward(r))
}

func (s *Server) deleteForward(r *http.Request) (response, error) {
	return done(s.Publish.DeleteForward(r.Context(), parentNetwork(r), objectName(r)))
}

func (s *Server) listLoadBalancers(r *http.Request) (response, error) {
	all, err := s.Publish.LoadBalancers(r.Context(), parentNetwork(r))
	return list(r, all, err, func(b api.NetworkLoadBalancer) string { return balancerURL(r, b.ListenAddress) })
}

func (s *Server) createLoadBalancer(r *http.Request) (response, error) {
	body, err := decode[api.NetworkLoadBalancersPost](r)
	if err != nil {
		return nil, err
	}
	return created(balancerURL(r, body.ListenAddress), s.Publish.CreateLoadBalancer(r.Context(), parentNetwork(r), body))
}

func (s *Server) loadBalancer(r *http.Request) (whole, writable any, err error) {
	b, err := s.Publish.LoadBalancer(r.Context(), parentNetwork(r), objectName(r))
	return b, b.NetworkLoadBalancerPut, err
}

func (s *Server) getLoadBalancer(r *http.Request) (response, error) { return read(r, s.loadBalancer) }

// updateLoadBalancer changes a load balancer of the network that a request
// names.
func (s *Server) updateLoadBalancer(r *http.Request) updater[api.NetworkLoadBalancerPut] {
	return func(ctx context.Context, name string, put api.NetworkLoadBalancerPut) error {
		return s.Publish.UpdateLoadBalancer(ctx, parentNetwork(r), name, put)
	}
}

func (s *Server) putLoadBalancer(r *http.Request) (response, error) {
	return replace(r, s.loadBalancer, s.updateLoadBalancer(r))
}

func (s *Server) patchLoadBalancer(r *http.Request) (response, error) {
	return change(r, s.loadBalancer, s.updateLoadBalancer(r))
}

func (s *Server) deleteLoadBalancer(r *http.Request) (response, error) {
	return done(s.Publish.DeleteLoadBalancer(r.Context(), parentNetwork(r), objectName(r)))
}

func (s *Server) getLoadBalancerState(r *http.Request) (response, error) {
	return got(s.Publish.LoadBalancerState(r.Context(), parentNetwork(r), objectName(r)))
}
