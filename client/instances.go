package client

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/cuib/cuib/shared/api"
)

// Instances returns all instances.
func (c *Client) Instances(ctx context.Context) ([]api.Instance, error) {
	return list[[]api.Instance](ctx, c, path("instances")+"?recursion=1")
}

// InstancesFull returns all instances with state and snapshots.
func (c *Client) InstancesFull(ctx context.Context) ([]api.InstanceFull, error) {
	return list[[]api.InstanceFull](ctx, c, path("instances")+"?recursion=2")
}

// InstanceHeads returns all instances without their configuration, devices,
// state and snapshots.
func (c *Client) InstanceHeads(ctx context.Context) ([]api.InstanceBrief, error) {
	return list[[]api.InstanceBrief](ctx, c, path("instances")+"?recursion=1&brief=true")
}

// InstanceBriefs is [Client.InstanceHeads] with the instances' addresses and
// the names of their snapshots. A daemon that does not know of it answers with
// all there is.
func (c *Client) InstanceBriefs(ctx context.Context) ([]api.InstanceBrief, error) {
	return list[[]api.InstanceBrief](ctx, c, path("instances")+"?recursion=2&brief=true")
}

// InstanceNames returns the names of all instances.
func (c *Client) InstanceNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("instances"))
}

// Instance returns an instance and its ETag.
func (c *Client) Instance(ctx context.Context, name string) (api.Instance, string, error) {
	return get[api.Instance](ctx, c, path("instances", name))
}

// InstanceSummary returns an instance with its state, and as much of its
// snapshots as a table of them shows. A daemon that does not know of it answers
// with all there is.
func (c *Client) InstanceSummary(ctx context.Context, name string) (api.InstanceSummary, error) {
	return list[api.InstanceSummary](ctx, c, path("instances", name)+"?recursion=1&brief=true")
}

// InstanceState returns what an instance is doing.
func (c *Client) InstanceState(ctx context.Context, name string) (api.InstanceState, error) {
	return list[api.InstanceState](ctx, c, path("instances", name, "state"))
}

// CreateInstance creates an instance, and starts it if the request says so.
func (c *Client) CreateInstance(ctx context.Context, req api.InstancesPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("instances"), body: req})
}

// UpdateInstance replaces the writable part of an instance if it still has
// the given ETag. An empty ETag fits always.
func (c *Client) UpdateInstance(ctx context.Context, name string, put api.InstancePut, etag string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPut, path: path("instances", name), body: put, etag: etag})
}

// SetInstanceState starts, stops, restarts, freezes or unfreezes an instance.
func (c *Client) SetInstanceState(ctx context.Context, name string, put api.InstanceStatePut) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPut, path: path("instances", name, "state"), body: put})
}

// RenameInstance renames or moves an instance.
func (c *Client) RenameInstance(ctx context.Context, name string, req api.InstancePost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("instances", name), body: req})
}

// RebuildInstance replaces the root file system of an instance.
func (c *Client) RebuildInstance(ctx context.Context, name string, req api.InstanceRebuildPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("instances", name, "rebuild"), body: req})
}

// DeleteInstance deletes a stopped instance.
func (c *Client) DeleteInstance(ctx context.Context, name string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: path("instances", name)})
}

// InstanceMetadata returns the metadata that came with the instance's image.
func (c *Client) InstanceMetadata(ctx context.Context, name string) (api.ImageMetadata, string, error) {
	return get[api.ImageMetadata](ctx, c, path("instances", name, "metadata"))
}

// UpdateInstanceMetadata replaces the metadata of an instance.
func (c *Client) UpdateInstanceMetadata(ctx context.Context, name string, meta api.ImageMetadata, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("instances", name, "metadata"), body: meta, etag: etag})
}

// Snapshots returns the snapshots of an instance.
func (c *Client) Snapshots(ctx context.Context, instance string) ([]api.InstanceSnapshot, error) {
	return list[[]api.InstanceSnapshot](ctx, c, path("instances", instance, "snapshots")+"?recursion=1")
}

// SnapshotSummaries returns as much of the snapshots of an instance as a table
// of them shows. A daemon that does not know of it answers with all there is.
func (c *Client) SnapshotSummaries(ctx context.Context, instance string) ([]api.SnapshotSummary, error) {
	return list[[]api.SnapshotSummary](ctx, c, path("instances", instance, "snapshots")+"?recursion=1&brief=true")
}

// Snapshot returns a snapshot and its ETag.
func (c *Client) Snapshot(ctx context.Context, instance, name string) (api.InstanceSnapshot, string, error) {
	return get[api.InstanceSnapshot](ctx, c, path("instances", instance, "snapshots", name))
}

// CreateSnapshot makes a snapshot of an instance.
func (c *Client) CreateSnapshot(ctx context.Context, instance string, req api.InstanceSnapshotsPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("instances", instance, "snapshots"), body: req})
}

// UpdateSnapshot changes when a snapshot expires and what describes it.
func (c *Client) UpdateSnapshot(ctx context.Context, instance, name string, put api.InstanceSnapshotPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("instances", instance, "snapshots", name), body: put, etag: etag})
}

// RenameSnapshot renames a snapshot.
func (c *Client) RenameSnapshot(ctx context.Context, instance, name, to string) (*Operation, error) {
	return c.start(ctx, call{
		method: http.MethodPost, path: path("instances", instance, "snapshots", name), body: api.InstanceSnapshotPost{Name: to},
	})
}

// DeleteSnapshots deletes several snapshots at once, on a daemon that has the
// extension cuib_snapshot_bulk.
func (c *Client) DeleteSnapshots(ctx context.Context, instance string, names []string) (*Operation, error) {
	return c.start(ctx, call{
		method: http.MethodDelete, path: path("instances", instance, "snapshots"), body: api.InstanceSnapshotsDelete{Names: names},
	})
}

// DeleteSnapshot deletes a snapshot.
func (c *Client) DeleteSnapshot(ctx context.Context, instance, name string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: path("instances", instance, "snapshots", name)})
}

// A Restoration says what an instance gets back.
type Restoration struct {
	Snapshot string `json:"restore"`
	Stateful bool   `json:"stateful"`                            // The running processes too.
	Volumes  string `json:"restore_disk_volumes_mode,omitempty"` // As in [api.InstancePut].
}

// RestoreSnapshot makes an instance what it was at a snapshot.
func (c *Client) RestoreSnapshot(ctx context.Context, instance string, what Restoration) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPut, path: path("instances", instance), body: what})
}

// names returns the last elements of a list of URLs.
func (c *Client) names(ctx context.Context, p string) ([]string, error) {
	urls, err := list[[]string](ctx, c, p)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(urls))
	for _, u := range urls {
		out = append(out, lastElement(p, u))
	}
	return out, nil
}

func sortBy[T any, K cmp.Ordered](all []T, key func(T) K) {
	slices.SortStableFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}
