package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
)

// zoneService keeps zones of DNS, and what they were given.
type zoneService interface {
	List(ctx context.Context) ([]api.NetworkZone, error)
	Get(ctx context.Context, name string) (api.NetworkZone, error)
	Create(ctx context.Context, req api.NetworkZonesPost) error
	Update(ctx context.Context, name string, put api.NetworkZonePut) error
	Delete(ctx context.Context, name string) error
	Records(ctx context.Context, zone string) ([]api.NetworkZoneRecord, error)
	Record(ctx context.Context, zone, name string) (api.NetworkZoneRecord, error)
	CreateRecord(ctx context.Context, zone string, req api.NetworkZoneRecordsPost) error
	UpdateRecord(ctx context.Context, zone, name string, put api.NetworkZoneRecordPut) error
	DeleteRecord(ctx context.Context, zone, name string) error
}

func (s *Server) zoneRoutes() []route {
	const (
		one    = "/1.0/network-zones/{name}"
		many   = "/1.0/network-zones/{zone}/records"
		record = many + "/{name}"
	)
	return []route{
		{get, "/1.0/network-zones", s.listZones},
		{post, "/1.0/network-zones", s.createZone},
		{get, one, s.getZone},
		{put, one, s.putZone},
		{patch, one, s.patchZone},
		{remove, one, s.deleteZone},
		{get, many, s.listZoneRecords},
		{post, many, s.createZoneRecord},
		{get, record, s.getZoneRecord},
		{put, record, s.putZoneRecord},
		{patch, record, s.patchZoneRecord},
		{remove, record, s.deleteZoneRecord},
	}
}

func zoneURL(name string) string { return "/1.0/network-zones/" + url.PathEscape(name) }

func zoneRecordURL(zone, name string) string {
	return zoneURL(zone) + "/records/" + url.PathEscape(name)
}

func (s *Server) listZones(r *http.Request) (response, error) {
	all, err := s.Zones.List(r.Context())
	return list(r, all, err, func(z api.NetworkZone) string { return zoneURL(z.Name) })
}

func (s *Server) createZone(r *http.Request) (response, error) {
	body, err := decode[api.NetworkZonesPost](r)
	if err != nil {
		return nil, err
	}
	return created(zoneURL(body.Name), s.Zones.Create(r.Context(), body))
}

func (s *Server) zone(r *http.Request) (whole, writable any, err error) {
	z, err := s.Zones.Get(r.Context(), objectName(r))
	return z, z.NetworkZonePut, err
}

func (s *Server) getZone(r *http.Request) (response, error) { return read(r, s.zone) }

func (s *Server) putZone(r *http.Request) (response, error) {
	return replace(r, s.zone, s.Zones.Update)
}

func (s *Server) patchZone(r *http.Request) (response, error) {
	return change(r, s.zone, s.Zones.Update)
}

func (s *Server) deleteZone(r *http.Request) (response, error) {
	return done(s.Zones.Delete(r.Context(), objectName(r)))
}

func (s *Server) listZoneRecords(r *http.Request) (response, error) {
	zone := r.PathValue("zone")
	all, err := s.Zones.Records(r.Context(), zone)
	return list(r, all, err, func(z api.NetworkZoneRecord) string { return zoneRecordURL(zone, z.Name) })
}

func (s *Server) createZoneRecord(r *http.Request) (response, error) {
	body, err := decode[api.NetworkZoneRecordsPost](r)
	if err != nil {
		return nil, err
	}
	zone := r.PathValue("zone")
	return created(zoneRecordURL(zone, body.Name), s.Zones.CreateRecord(r.Context(), zone, body))
}

func (s *Server) zoneRecord(r *http.Request) (whole, writable any, err error) {
	z, err := s.Zones.Record(r.Context(), r.PathValue("zone"), objectName(r))
	return z, z.NetworkZoneRecordPut, err
}

func (s *Server) getZoneRecord(r *http.Request) (response, error) { return read(r, s.zoneRecord) }

// updateZoneRecord changes a record of the zone that a request names.
func (s *Server) updateZoneRecord(r *http.Request) updater[api.NetworkZoneRecordPut] {
	return func(ctx context.Context, name string, put api.NetworkZoneRecordPut) error {
		return s.Zones.UpdateRecord(ctx, r.PathValue("zone"), name, put)
	}
}

func (s *Server) putZoneRecord(r *http.Request) (response, error) {
	return replace(r, s.zoneRecord, s.updateZoneRecord(r))
}

func (s *Server) patchZoneRecord(r *http.Request) (response, error) {
	return change(r, s.zoneRecord, s.updateZoneRecord(r))
}

func (s *Server) deleteZoneRecord(r *http.Request) (response, error) {
	return done(s.Zones.DeleteRecord(r.Context(), r.PathValue("zone"), objectName(r)))
}
