package client

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/api"
)

// A Volume says which volume is meant.
type Volume struct {
	Pool string
	Type string // custom, container or image
	Name string
}

func (v Volume) path(elem ...string) string {
	return path(append([]string{"storage-pools", v.Pool, "volumes", v.Type, v.Name}, elem...)...)
}

// StorageVolumes returns the volumes of a pool.
func (c *Client) StorageVolumes(ctx context.Context, pool string) ([]api.StorageVolume, error) {
	return list[[]api.StorageVolume](ctx, c, path("storage-pools", pool, "volumes")+"?recursion=1")
}

// StorageVolume returns a volume and its ETag.
func (c *Client) StorageVolume(ctx context.Context, v Volume) (api.StorageVolume, string, error) {
	return get[api.StorageVolume](ctx, c, v.path())
}

// StorageVolumeState returns how much room a volume takes.
func (c *Client) StorageVolumeState(ctx context.Context, v Volume) (api.StorageVolumeState, error) {
	return list[api.StorageVolumeState](ctx, c, v.path("state"))
}

// CreateStorageVolume makes a custom volume in a pool: an empty one, or a copy
// as the source says.
func (c *Client) CreateStorageVolume(ctx context.Context, pool string, req api.StorageVolumesPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("storage-pools", pool, "volumes", "custom"), body: req})
}

// UpdateStorageVolume replaces the writable part of a volume if it still has
// the given ETag. An empty ETag fits always.
func (c *Client) UpdateStorageVolume(ctx context.Context, v Volume, put api.StorageVolumePut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: v.path(), body: put, etag: etag})
}

// MoveStorageVolume renames a volume, or moves it to another pool.
func (c *Client) MoveStorageVolume(ctx context.Context, v Volume, req api.StorageVolumePost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: v.path(), body: req})
}

// DeleteStorageVolume deletes an unused volume with its snapshots.
func (c *Client) DeleteStorageVolume(ctx context.Context, v Volume) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: v.path()})
}

// StorageVolumeSnapshots returns the snapshots of a volume.
func (c *Client) StorageVolumeSnapshots(ctx context.Context, v Volume) ([]api.StorageVolumeSnapshot, error) {
	all, err := list[[]api.StorageVolumeSnapshot](ctx, c, v.path("snapshots")+"?recursion=1")
	for i := range all {
		all[i].Name = strings.TrimPrefix(all[i].Name, v.Name+"/") // Lists have both names.
	}
	return all, err
}

// StorageVolumeSnapshot returns a snapshot of a volume and its ETag.
func (c *Client) StorageVolumeSnapshot(ctx context.Context, v Volume, name string) (api.StorageVolumeSnapshot, string, error) {
	return get[api.StorageVolumeSnapshot](ctx, c, v.path("snapshots", name))
}

// CreateStorageVolumeSnapshot makes a snapshot of a volume.
func (c *Client) CreateStorageVolumeSnapshot(ctx context.Context, v Volume, req api.StorageVolumeSnapshotsPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: v.path("snapshots"), body: req})
}

// A SnapshotUpdate is what a snapshot of a volume is to be like, if it still
// has the given ETag. An empty ETag fits always.
type SnapshotUpdate struct {
	api.StorageVolumeSnapshotPut

	ETag string
}

// UpdateStorageVolumeSnapshot changes when a snapshot of a volume expires and
// what describes it.
func (c *Client) UpdateStorageVolumeSnapshot(ctx context.Context, v Volume, name string, up SnapshotUpdate) error {
	if up.ExpiresAt == nil {
		up.ExpiresAt = &time.Time{} // Never.
	}
	return c.send(ctx, call{method: http.MethodPut, path: v.path("snapshots", name), body: up.StorageVolumeSnapshotPut, etag: up.ETag})
}

// RenameStorageVolumeSnapshot renames a snapshot of a volume.
func (c *Client) RenameStorageVolumeSnapshot(ctx context.Context, v Volume, name, to string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: v.path("snapshots", name), body: api.StorageVolumeSnapshotPost{Name: to}})
}

// DeleteStorageVolumeSnapshot deletes a snapshot of a volume.
func (c *Client) DeleteStorageVolumeSnapshot(ctx context.Context, v Volume, name string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: v.path("snapshots", name)})
}

// RestoreStorageVolume makes a volume what it was at a snapshot.
func (c *Client) RestoreStorageVolume(ctx context.Context, v Volume, snapshot string) (*Operation, error) {
	now, etag, err := c.StorageVolume(ctx, v)
	if err != nil {
		return nil, err
	}
	now.Restore = snapshot
	return c.start(ctx, call{method: http.MethodPut, path: v.path(), body: now.StorageVolumePut, etag: etag})
}

// StorageVolumeSFTP opens a connection that speaks the SFTP protocol on the
// files of a volume. The caller closes it.
func (c *Client) StorageVolumeSFTP(ctx context.Context, v Volume) (net.Conn, error) {
	return c.sftp(ctx, v.path("sftp"), v.Name)
}

// A Span is two states of the same instance or volume. An empty From is the
// newest snapshot; an empty To is now.
type Span struct {
	From, To string // Names of snapshots.
}

func (s Span) query() string {
	q := url.Values{}
	if s.From != "" {
		q.Set("from", s.From)
	}
	if s.To != "" {
		q.Set("to", s.To)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// InstanceChanges returns which files of an instance changed.
func (c *Client) InstanceChanges(ctx context.Context, instance string, s Span) ([]api.FileChange, error) {
	return list[[]api.FileChange](ctx, c, path("instances", instance, "diff")+s.query())
}

// StorageVolumeChanges returns which files of a volume changed.
func (c *Client) StorageVolumeChanges(ctx context.Context, v Volume, s Span) ([]api.FileChange, error) {
	return list[[]api.FileChange](ctx, c, v.path("diff")+s.query())
}
