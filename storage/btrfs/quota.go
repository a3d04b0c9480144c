package btrfs

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tree that has what is known of quota groups, and the keys of its items.
// A group of a subvolume has the subvolume's number.
const (
	quotaTree       = 8
	qgroupStatusKey = 0xf0
	qgroupInfoKey   = 0xf2
	qgroupLimitKey  = 0xf4
)

// A quotaRange is what to read of the quota tree: the items under a key of the
// groups from first to last.
type quotaRange struct {
	key         uint32
	first, last uint64
}

// A groupItem is what the quota tree has of a group under a key.
type groupItem struct {
	id      uint64
	numbers []uint64
}

// bytes returns what the group's subvolume occupies, of an item under
// [qgroupInfoKey]: what it alone does, or, if it has a limit, what that
// counts.
func (i groupItem) bytes(limit uint64) (int64, bool) {
	const referenced, exclusive = 1, 3 // generation, referenced, compressed, exclusive, compressed
	if len(i.numbers) <= exclusive {
		return 0, false
	}
	n := i.numbers[exclusive]
	if limit != noLimit {
		n = i.numbers[referenced]
	}
	return int64(min(n, math.MaxInt64)), true //nolint:gosec // It fits.
}

// limit returns the limit of an item under [qgroupLimitKey]; noLimit if there
// is none.
func (i groupItem) limit() uint64 {
	if len(i.numbers) < 2 || i.numbers[0]&limitReferenced == 0 {
		return noLimit
	}
	return i.numbers[1]
}

// searchArgs is struct btrfs_ioctl_search_args.
type searchArgs struct {
	tree, minObject, maxObject, minOffset, maxOffset, minTrans, maxTrans uint64
	minType, maxType, items                                              uint32
	_                                                                    uint32
	_                                                                    [4]uint64
	buf                                                                  [3992]byte
}

// quotaItems returns the first items of a range, some dozens of them if there
// are so many; none if there are no more, or quotas are not enabled. path is
// anywhere on the file system.
func quotaItems(path string, r quotaRange) ([]groupItem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	args := searchArgs{
		tree: quotaTree, minOffset: r.first, maxOffset: r.last, maxTrans: ^uint64(0),
		minType: r.key, maxType: r.key, items: math.MaxUint32,
	}
	err = ioctl(f, iocTreeSearch, unsafe.Pointer(&args))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "read the quotas of", Path: path, Err: err}
	}
	return parseItems(args.buf[:], int(args.items)), nil
}

// parseItems returns the items of an answer, each behind its header.
func parseItems(buf []byte, n int) []groupItem {
	const header = 32 // transid, objectid, offset, type, length
	var out []groupItem
	for range n {
		if len(buf) < header {
			break
		}
		it := groupItem{id: binary.NativeEndian.Uint64(buf[16:])}
		size := int(binary.NativeEndian.Uint32(buf[header-4:]))
		buf = buf[header:]
		size = min(size, len(buf))
		for i := 0; i+8 <= size; i += 8 {
			it.numbers = append(it.numbers, binary.LittleEndian.Uint64(buf[i:]))
		}
		out, buf = append(out, it), buf[size:]
	}
	return out
}

// quotaItem returns what the quota tree has of a subvolume under a key; no
// numbers if quotas are not enabled.
func quotaItem(path string, key uint32) (groupItem, error) {
	id, err := subvolID(path)
	if err != nil {
		return groupItem{}, err
	}
	items, err := quotaItems(path, quotaRange{key, id, id})
	if err != nil || len(items) == 0 {
		return groupItem{}, err
	}
	return items[0], nil
}

// limitOf returns the limit that setLimit set; noLimit if there is none.
func limitOf(path string) (uint64, error) {
	it, err := quotaItem(path, qgroupLimitKey)
	return it.limit(), err
}
