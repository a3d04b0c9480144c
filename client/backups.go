package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// An archive is what an instance or a volume is exported from.
type archive struct {
	path string // Of its backups.
	body any    // The request for one.
}

// backupLife is when a backup that was made for one export is deleted, should
// the client not come to it.
const backupLife = 24 * time.Hour

// ExportInstance writes the archive of an instance to w. Name and ExpiresAt of
// the request are ignored.
func (c *Client) ExportInstance(ctx context.Context, instance string, req api.InstanceBackupsPost, w io.Writer) error {
	req.Name, req.ExpiresAt = "", time.Now().Add(backupLife)
	return c.export(ctx, archive{path: path("instances", instance, "backups"), body: req}, w)
}

// ExportStorageVolume writes the archive of a volume to w. Name and ExpiresAt
// of the request are ignored.
func (c *Client) ExportStorageVolume(ctx context.Context, v Volume, req api.StorageVolumeBackupsPost, w io.Writer) error {
	req.Name, req.ExpiresAt = "", time.Now().Add(backupLife)
	return c.export(ctx, archive{path: v.path("backups"), body: req}, w)
}

// export takes the archive from the answer, if the daemon can give it so, or
// makes a backup for the time of the export.
func (c *Client) export(ctx context.Context, a archive, w io.Writer) error {
	server, _, err := c.Server(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(server.APIExtensions, "direct_backup") {
		return c.exportRecord(ctx, a, w)
	}
	accept := http.Header{"Accept": {"application/octet-stream"}}
	return c.stream(ctx, call{method: http.MethodPost, path: a.path, body: a.body, header: accept}, w)
}

func (c *Client) exportRecord(ctx context.Context, a archive, w io.Writer) error {
	op, err := c.start(ctx, call{method: http.MethodPost, path: a.path, body: a.body})
	if err != nil {
		return err
	}
	if err := op.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			_ = c.CancelOperation(context.WithoutCancel(ctx), op.ID) // The interruption is the error.
		}
		return err
	}
	name := op.Made("backups")
	if name == "" {
		return errs.Newf(errs.Internal, "the daemon made a backup and did not say its name")
	}
	record := a.path + "/" + name
	err = c.stream(ctx, call{method: http.MethodGet, path: record + "/export"}, w)
	after := context.WithoutCancel(ctx)
	if rerr := c.send(after, call{method: http.MethodDelete, path: record}); err == nil {
		return rerr
	}
	return err
}

// stream writes the answer to a request to w.
func (c *Client) stream(ctx context.Context, q call, w io.Writer) error {
	resp, err := c.do(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if _, err := open(resp); err != nil {
			return err
		}
		return errs.Newf(errs.Internal, "the daemon answered %s instead of a stream", resp.Status)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		if ctx.Err() != nil {
			return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
		}
		return fmt.Errorf("the archive is not whole: %w", err)
	}
	return nil
}

// An InstanceUpload is an archive to make an instance of.
type InstanceUpload struct {
	Archive io.Reader
	Name    string         // Instead of the name in the archive, if it is not empty.
	Pool    string         // Instead of the pool in the archive, if it is not empty.
	Config  api.ConfigMap  // Keys to change.
	Devices api.DevicesMap // Devices to change.
}

// ImportInstance makes an instance of an archive.
func (c *Client) ImportInstance(ctx context.Context, up InstanceUpload) (*Operation, error) {
	h := uploadHeader(up.Name)
	set(h, "pool", up.Pool)
	devices := url.Values{}
	for name, d := range up.Devices {
		devices.Set(name, query(d).Encode())
	}
	setOwn(h, "devices", devices.Encode())
	setOwn(h, "config", query(up.Config).Encode())
	return c.start(ctx, call{method: http.MethodPost, path: path("instances"), body: up.Archive, header: h})
}

// A VolumeUpload is an archive to make a volume of, or what an ISO volume is
// to hold.
type VolumeUpload struct {
	Content io.Reader
	Name    string // Instead of the name in the archive, if it is not empty.
	IsISO   bool
}

// ImportStorageVolume makes a custom volume of an archive or an ISO image.
func (c *Client) ImportStorageVolume(ctx context.Context, pool string, up VolumeUpload) (*Operation, error) {
	h := uploadHeader(up.Name)
	if up.IsISO {
		set(h, "type", "iso")
	}
	return c.start(ctx, call{method: http.MethodPost, path: path("storage-pools", pool, "volumes", "custom"), body: up.Content, header: h})
}

// uploadHeader returns the headers of an upload with a name for what is made.
func uploadHeader(name string) http.Header {
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	set(h, "name", name)
	return h
}

// set sets one of the API's own headers, unless its value is empty.
func set(h http.Header, name, value string) {
	if value != "" {
		h.Set("X-Incus-"+name, value)
	}
}

// setOwn is set for headers whose values others encode in another way.
func setOwn(h http.Header, name, value string) {
	if value != "" {
		h.Set("X-Cuib-"+name, value)
	}
}

func query(m map[string]string) url.Values {
	v := url.Values{}
	for key, value := range m {
		v.Set(key, value)
	}
	return v
}
