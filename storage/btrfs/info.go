package btrfs

import (
	"bytes"
	"os"
	"unsafe"
)

const iocSubvolInfo = 0x81f8943c

// A subvolInfo is what tells a subvolume from others.
type subvolInfo struct {
	uuid, received [16]byte
}

// is reports whether a stream that names the uuid means this subvolume.
func (s *subvolInfo) is(uuid []byte) bool {
	if s == nil {
		return false
	}
	if s.received != [16]byte{} && bytes.Equal(uuid, s.received[:]) {
		return true
	}
	return bytes.Equal(uuid, s.uuid[:])
}

// infoOf asks the kernel about a subvolume.
func infoOf(path string) (*subvolInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var args struct {
		id                 uint64
		name               [256]byte
		parent, dir        uint64
		generation, flags  uint64
		uuid, from, source [16]byte
		_                  [160]byte
	}
	if err := ioctl(f, iocSubvolInfo, unsafe.Pointer(&args)); err != nil {
		return nil, &os.PathError{Op: "look up subvolume", Path: path, Err: err}
	}
	return &subvolInfo{uuid: args.uuid, received: args.source}, nil
}
