package zones

import (
	"context"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func recordURL(zone, name string) string { return zoneURL(zone) + "/records/" + name }

func noRecord(zone, name string) error {
	return errs.NotFoundf("record %q of network zone %q not found", name, zone)
}

// Records returns the records that a zone was given.
func (s *Service) Records(ctx context.Context, zone string) ([]api.NetworkZoneRecord, error) {
	d, err := s.read(ctx, zone)
	all := []api.NetworkZoneRecord{}
	for _, name := range slices.Sorted(maps.Keys(d.Records)) {
		all = append(all, record(name, d.Records[name]))
	}
	return all, err
}

// Record returns a record that a zone was given.
func (s *Service) Record(ctx context.Context, zone, name string) (api.NetworkZoneRecord, error) {
	d, err := s.read(ctx, zone)
	if err != nil {
		return api.NetworkZoneRecord{}, err
	}
	put, ok := d.Records[name]
	if !ok {
		return api.NetworkZoneRecord{}, noRecord(zone, name)
	}
	return record(name, put), nil
}

func record(name string, put api.NetworkZoneRecordPut) api.NetworkZoneRecord {
	if put.Config == nil {
		put.Config = api.ConfigMap{}
	}
	if put.Entries == nil {
		put.Entries = []api.NetworkZoneRecordEntry{}
	}
	return api.NetworkZoneRecord{NetworkZoneRecordPut: put, Name: name}
}

func (s *Service) read(ctx context.Context, name string) (document, error) {
	var z zone
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		z, err = db.GetNetworkObject(ctx, tx, kind, name)
		return err
	})
	return z.Document, err
}

// CreateRecord gives a zone a record.
func (s *Service) CreateRecord(ctx context.Context, zone string, req api.NetworkZoneRecordsPost) error {
	if err := checkRecordName(zone, req.Name); err != nil {
		return err
	}
	err := s.setRecord(ctx, zone, req.Name, func(d *document) error {
		if _, ok := d.Records[req.Name]; ok {
			return errs.Conflictf("record %q of network zone %q exists already", req.Name, zone)
		}
		return nil
	}, req.NetworkZoneRecordPut)
	return s.changed(err, "network-zone-record-created", recordURL(zone, req.Name))
}

// UpdateRecord changes a record, all of which put has.
func (s *Service) UpdateRecord(ctx context.Context, zone, name string, put api.NetworkZoneRecordPut) error {
	err := s.setRecord(ctx, zone, name, func(d *document) error {
		if _, ok := d.Records[name]; !ok {
			return noRecord(zone, name)
		}
		return nil
	}, put)
	return s.changed(err, "network-zone-record-updated", recordURL(zone, name))
}

// setRecord keeps a record, if may returns no error.
func (s *Service) setRecord(ctx context.Context, zone, name string, may func(d *document) error, put api.NetworkZoneRecordPut) error {
	put, err := cleanedRecord(zone, name, put)
	if err != nil {
		return err
	}
	return s.edit(ctx, zone, func(d *document) error {
		if err := may(d); err != nil {
			return err
		}
		if d.Records == nil {
			d.Records = map[string]api.NetworkZoneRecordPut{}
		}
		d.Records[name] = put
		return nil
	})
}

// DeleteRecord takes a record from a zone.
func (s *Service) DeleteRecord(ctx context.Context, zone, name string) error {
	err := s.edit(ctx, zone, func(d *document) error {
		if _, ok := d.Records[name]; !ok {
			return noRecord(zone, name)
		}
		delete(d.Records, name)
		return nil
	})
	return s.changed(err, "network-zone-record-deleted", recordURL(zone, name))
}

// cleanedRecord is what is kept of a record: its entries as they are told to
// others, each once.
func cleanedRecord(zone, name string, put api.NetworkZoneRecordPut) (api.NetworkZoneRecordPut, error) {
	put.Config = maps.Clone(put.Config)
	maps.DeleteFunc(put.Config, func(_, v string) bool { return v == "" })
	if err := onlyUser(put.Config); err != nil {
		return put, err
	}
	var seen []string
	entries := []api.NetworkZoneRecordEntry{}
	for i, e := range put.Entries {
		rr, err := resource(zone, name, e)
		if err != nil {
			return put, errs.Invalidf("entries[%d]: %w", i, err)
		}
		if text := rr.Header().String() + e.Value; slices.Contains(seen, text) {
			return put, errs.Invalidf("entries[%d]: there is an entry %s %q already", i, e.Type, e.Value)
		}
		seen = append(seen, rr.Header().String()+e.Value)
		e.Type = typeOf(rr)
		entries = append(entries, e)
	}
	put.Entries = entries
	return put, checkAlone(name, entries)
}
