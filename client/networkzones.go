package client

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

const zones = "network-zones"

// NetworkZones returns all zones of DNS.
func (c *Client) NetworkZones(ctx context.Context) ([]api.NetworkZone, error) {
	return list[[]api.NetworkZone](ctx, c, path(zones)+"?recursion=1")
}

// NetworkZoneNames returns the names of all zones.
func (c *Client) NetworkZoneNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path(zones))
}

// NetworkZone returns a zone and its ETag.
func (c *Client) NetworkZone(ctx context.Context, name string) (api.NetworkZone, string, error) {
	return get[api.NetworkZone](ctx, c, path(zones, name))
}

// CreateNetworkZone creates a zone.
func (c *Client) CreateNetworkZone(ctx context.Context, req api.NetworkZonesPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(zones), body: req})
}

// UpdateNetworkZone replaces the writable part of a zone.
func (c *Client) UpdateNetworkZone(ctx context.Context, name string, put api.NetworkZonePut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path(zones, name), body: put, etag: etag})
}

// DeleteNetworkZone deletes a zone with its records.
func (c *Client) DeleteNetworkZone(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path(zones, name)})
}

// NetworkZoneRecords returns the records that a zone was given.
func (c *Client) NetworkZoneRecords(ctx context.Context, zone string) ([]api.NetworkZoneRecord, error) {
	return list[[]api.NetworkZoneRecord](ctx, c, path(zones, zone, "records")+"?recursion=1")
}

// NetworkZoneRecord returns a record of a zone and its ETag.
func (c *Client) NetworkZoneRecord(ctx context.Context, zone, name string) (api.NetworkZoneRecord, string, error) {
	return get[api.NetworkZoneRecord](ctx, c, path(zones, zone, "records", name))
}

// CreateNetworkZoneRecord gives a zone a record.
func (c *Client) CreateNetworkZoneRecord(ctx context.Context, zone string, req api.NetworkZoneRecordsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(zones, zone, "records"), body: req})
}

// ZoneRecord names a record of a zone.
type ZoneRecord struct{ Zone, Name string }

// UpdateNetworkZoneRecord replaces the writable part of a record.
func (c *Client) UpdateNetworkZoneRecord(ctx context.Context, of ZoneRecord, put api.NetworkZoneRecordPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path(zones, of.Zone, "records", of.Name), body: put, etag: etag})
}

// DeleteNetworkZoneRecord takes a record from a zone.
func (c *Client) DeleteNetworkZoneRecord(ctx context.Context, of ZoneRecord) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path(zones, of.Zone, "records", of.Name)})
}
