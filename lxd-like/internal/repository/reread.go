package repository

import (
	"context"
	"slices"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

// rereadAfter is how long it may be that all files of a source were read,
// where restic cannot know for certain which ones changed.
const rereadAfter = 7 * 24 * time.Hour

// tagReread is that of a backup for which all files were read.
const tagReread = "read=all"

// reads returns the arguments that say which files restic reads again, and
// the tags that tell it. By itself it reads those that have another size,
// inode, or time of a change than in the backup before. What is read of a
// pool whose snapshots are copies has other inodes and times of the copying
// each time: there only size and modification time count, as for a refresh.
// What changed without them is found by a backup that reads all of it, as one
// does each week, or on request.
func (s *Service) reads(ctx context.Context, r db.Repository, v saving) (args, tags []string, err error) {
	if v.checksum {
		return []string{"--force"}, []string{tagReread}, nil
	}
	copied, err := s.copies(ctx, v.source)
	if err != nil || !copied {
		return nil, nil, err
	}
	all, err := s.snapshots(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	since := time.Now().Add(-rereadAfter)
	known := slices.ContainsFunc(all, func(snap snapshot) bool {
		return snap.Hostname == s.Host && snap.tag(tagSource) == v.source.String() &&
			slices.Contains(snap.Tags, tagReread) && snap.Time.After(since) && !snap.Time.After(time.Now())
	})
	if !known {
		return []string{"--force"}, []string{tagReread}, nil
	}
	return []string{"--ignore-inode", "--ignore-ctime"}, nil, nil
}

// copies reports whether what is read of a source is a copy of its files, and
// not the files themselves.
func (s *Service) copies(ctx context.Context, src source) (copied bool, err error) {
	if src == (source{}) {
		return false, nil
	}
	pool := src.pool
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if pool == "" {
			in, err := db.GetInstance(ctx, tx, src.name)
			if err != nil {
				return err
			}
			pool = in.Pool
		}
		p, err := db.GetPool(ctx, tx, pool)
		copied = p.Driver == "overlay" || p.Driver == "dir"
		return err
	})
	return copied, err
}
