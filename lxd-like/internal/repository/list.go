package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// The tags of our backups.
const (
	tagOurs   = "cuib"
	tagSource = "source="
	tagSize   = "size="
	tagSum    = "sum=" // Of the document of a host.
)

// tagText makes text fit for a tag: restic takes a comma for the end of one.
var tagText = strings.NewReplacer("%", "%25", ",", "%2C")

var untagText = strings.NewReplacer("%25", "%", "%2C", ",")

// A snapshot is a backup as restic describes it.
type snapshot struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Hostname string    `json:"hostname"`
	Tags     []string  `json:"tags"`
}

// tag returns what follows a prefix in one of the tags.
func (s snapshot) tag(prefix string) string {
	for _, t := range s.Tags {
		if v, ok := strings.CutPrefix(t, prefix); ok {
			return untagText.Replace(v)
		}
	}
	return ""
}

func (s snapshot) describe(added []db.RepositoryBackup) api.RepositoryBackup {
	out := api.RepositoryBackup{ID: s.ID, Source: s.tag(tagSource), CreatedAt: s.Time, Host: s.Hostname, Size: -1, Added: -1}
	if n, err := strconv.ParseInt(s.tag(tagSize), 10, 64); err == nil {
		out.Size = n
	}
	for _, b := range added {
		if strings.HasPrefix(s.ID, b.Backup) {
			out.Added = b.Added
		}
	}
	return out
}

// Backups returns the backups in a repository, oldest first: all, or those of
// one source.
func (s *Service) Backups(ctx context.Context, name, of string) ([]api.RepositoryBackup, error) {
	if of != "" {
		if _, err := parseSource(of); err != nil {
			return nil, err
		}
	}
	r, err := s.record(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	var added []db.RepositoryBackup
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		added, err = db.RepositoryBackups(ctx, tx, r.ID)
		return err
	})
	out := make([]api.RepositoryBackup, 0, len(all))
	for _, snap := range all {
		if of == "" || of == snap.tag(tagSource) {
			out = append(out, snap.describe(added))
		}
	}
	return out, err
}

// Backup returns one backup in a repository; the beginning of its id is
// enough.
func (s *Service) Backup(ctx context.Context, name, id string) (api.RepositoryBackup, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return api.RepositoryBackup{}, err
	}
	snap, err := s.find(ctx, r, id)
	if err != nil {
		return api.RepositoryBackup{}, err
	}
	var added []db.RepositoryBackup
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		added, err = db.RepositoryBackups(ctx, tx, r.ID)
		return err
	})
	return snap.describe(added), err
}

// snapshots returns all our backups in a repository, oldest first. It waits
// for nobody who changes it.
func (s *Service) snapshots(ctx context.Context, r db.Repository) ([]snapshot, error) {
	var out bytes.Buffer
	err := s.restic(ctx, r, call{args: []string{"snapshots", "--json", "--no-lock", "--tag", tagOurs}, stdout: &out})
	if err != nil {
		return nil, err
	}
	var all []snapshot
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		return nil, fmt.Errorf("read restic's list of snapshots: %w", err)
	}
	slices.SortStableFunc(all, func(a, b snapshot) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// find returns the backup whose id begins so.
func (s *Service) find(ctx context.Context, r db.Repository, id string) (snapshot, error) {
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return snapshot{}, err
	}
	var found []snapshot
	for _, snap := range all {
		if id != "" && strings.HasPrefix(snap.ID, id) {
			found = append(found, snap)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return snapshot{}, errs.NotFoundf("backup %q not found in repository %q", id, r.Name)
	}
	return snapshot{}, errs.Invalidf("backup %q: the ids of %d backups in repository %q begin so", id, len(found), r.Name)
}

// latest returns the last backup of a source of a host.
func latest(all []snapshot, src source, host string) (snapshot, bool) {
	for _, snap := range slices.Backward(all) {
		if snap.Hostname == host && snap.tag(tagSource) == src.String() {
			return snap, true
		}
	}
	return snapshot{}, false
}

// hostsOf returns the hosts that have a backup of a source; of any, if it is
// empty.
func hostsOf(all []snapshot, of string) []string {
	var out []string
	for _, snap := range all {
		if (of == "" || snap.tag(tagSource) == of) && !slices.Contains(out, snap.Hostname) {
			out = append(out, snap.Hostname)
		}
	}
	return out
}
