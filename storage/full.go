package storage

import (
	"context"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// Full adds to an error of a full disk how much room the pool has that was
// worked in. It returns any other error as it is, and nil if there is none.
// What failed is unmade already: what it had written counts as free.
func Full(ctx context.Context, d Driver, pool string, err error) error {
	s, ok := d.(Spacer)
	if !ok || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	space, serr := s.Space(context.WithoutCancel(ctx))
	if serr != nil {
		return err // It says enough, and more than this one.
	}
	inodes := ""
	if space.TotalInodes > 0 && space.UsedInodes >= space.TotalInodes-space.TotalInodes/100 {
		inodes = fmt.Sprintf(", and %d inodes of %d", space.TotalInodes-space.UsedInodes, space.TotalInodes)
	}
	return errs.Newf(errs.Unavailable, "%w (storage pool %q has %s free of %s%s)", err, pool, bytes(space.FreeBytes), bytes(space.TotalBytes), inodes)
}

func bytes(n uint64) string { return units.FormatBytes(int64(min(n, math.MaxInt64))) } //nolint:gosec // It fits.
