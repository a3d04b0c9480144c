package repository

import (
	"context"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A source is what a backup is of. The zero value is the host.
type source struct {
	pool string // Of a volume; empty for an instance.
	name string
}

const (
	hostSource   = "host"
	instancesDir = "instances/"
	volumesDir   = "volumes/"
)

// String returns the source as the API has it.
func (s source) String() string {
	switch {
	case s.pool != "":
		return volumesDir + s.pool + "/" + s.name
	case s.name != "":
		return instancesDir + s.name
	}
	return hostSource
}

// project is the one that it is in.
func (s source) project() string {
	if s.pool != "" {
		return project.Of(s.name)
	}
	return project.OfInstance(s.name)
}

// parseSource inverts [source.String].
func parseSource(text string) (source, error) {
	if text == hostSource {
		return source{}, nil
	}
	if name, ok := strings.CutPrefix(text, instancesDir); ok && name != "" && !strings.Contains(name, "/") {
		return source{name: name}, nil
	}
	if rest, ok := strings.CutPrefix(text, volumesDir); ok {
		if pool, name, ok := strings.Cut(rest, "/"); ok && pool != "" && name != "" && !strings.Contains(name, "/") {
			return source{pool, name}, nil
		}
	}
	return source{}, errs.Invalidf("source %q is not of the form instances/NAME, volumes/POOL/NAME or host", text)
}

// sources returns all that there is to back up on this host, or what is
// named, without what is named twice.
func (s *Service) sources(ctx context.Context, named []string) ([]source, error) {
	all, err := s.present(ctx)
	if err != nil || len(named) == 0 {
		return append(all, source{}), err
	}
	var out []source
	for _, text := range named {
		src, err := parseSource(text)
		if err != nil {
			return nil, err
		}
		if src != (source{}) && !slices.Contains(all, src) {
			return nil, errs.NotFoundf("%s not found", src)
		}
		if !slices.Contains(out, src) {
			out = append(out, src)
		}
	}
	return out, nil
}

// present returns the instances and custom volumes that are there.
func (s *Service) present(ctx context.Context) ([]source, error) {
	var out []source
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out = nil
		vols, err := db.Volumes(ctx, tx)
		if err != nil {
			return err
		}
		for _, v := range vols {
			if v.Status == db.Ready {
				out = append(out, source{v.Pool, v.Name})
			}
		}
		rows, err := db.Instances(ctx, tx)
		for _, in := range rows {
			if in.Status == db.Ready {
				out = append(out, source{name: in.Name})
			}
		}
		return err
	})
	return out, err
}

// allowed reports that backups cannot be made in the source's project. A backup
// of the host is of no project.
func (s *Service) allowed(ctx context.Context, src source) error {
	switch {
	case src.pool != "":
		return s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfVolumeBackups, Pool: src.pool, Key: src.name})
	case src.name != "":
		return s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfBackups, Key: src.name})
	}
	return nil
}
