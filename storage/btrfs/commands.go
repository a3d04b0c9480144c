package btrfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/cuib/cuib/shared/errs"
)

// The form of a stream of the kernel: a magic, a version, and commands, each
// with a header and attributes. See fs/btrfs/send.h.
const (
	streamMagic   = "btrfs-stream\x00"
	streamVersion = 1
	commandHeader = 10 // Length, command, checksum.
	attrHeader    = 4  // Type, length.
	maxCommand    = 1 << 18
)

// The commands that are of interest here.
const (
	cmdSubvol   = 1
	cmdSnapshot = 2
	cmdMkfile   = 3
	cmdSymlink  = 8
	cmdRename   = 9
	cmdLink     = 10
	cmdClone    = 16
	cmdEnd      = 21
	cmdUpdate   = 22
)

// The attributes that are of interest here.
const (
	attrUUID      = 1
	attrPath      = 15
	attrPathTo    = 16
	attrPathLink  = 17
	attrCloneUUID = 20
	attrClonePath = 22
)

// A command is one of a stream.
type command struct {
	cmd   uint16
	attrs map[uint16][]byte
	raw   []byte // With the header. It is valid until the next is read.
}

func (c command) path() string { return string(c.attrs[attrPath]) }

// A commandReader reads a stream.
type commandReader struct {
	r   *bufio.Reader
	buf []byte
}

// newCommandReader reads the head of a stream, and returns it.
func newCommandReader(r io.Reader) (*commandReader, []byte, error) {
	c := &commandReader{r: bufio.NewReaderSize(r, 1<<17)}
	head := make([]byte, len(streamMagic)+4)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return nil, nil, cutOff(err)
	}
	if string(head[:len(streamMagic)]) != streamMagic {
		return nil, nil, errs.Invalidf("bad stream: it is not one of btrfs")
	}
	if v := binary.LittleEndian.Uint32(head[len(streamMagic):]); v != streamVersion {
		return nil, nil, errs.Invalidf("bad stream: it is of version %d of those of btrfs, want %d", v, streamVersion)
	}
	return c, head, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.Invalidf("bad stream: it is cut off")
	}
	return err
}

// next reads a command.
func (r *commandReader) next() (command, error) {
	var head [commandHeader]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return command{}, cutOff(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxCommand {
		return command{}, errs.Invalidf("bad stream: a command of %d bytes", size)
	}
	if need := commandHeader + int(size); cap(r.buf) < need {
		r.buf = make([]byte, need)
	}
	raw := r.buf[:commandHeader+size]
	copy(raw, head[:])
	if _, err := io.ReadFull(r.r, raw[commandHeader:]); err != nil {
		return command{}, cutOff(err)
	}
	attrs, err := parseAttrs(raw[commandHeader:])
	return command{binary.LittleEndian.Uint16(head[4:]), attrs, raw}, err
}

func parseAttrs(data []byte) (map[uint16][]byte, error) {
	attrs := make(map[uint16][]byte, 4)
	for len(data) > 0 {
		if len(data) < attrHeader {
			return nil, errs.Invalidf("bad stream: an attribute is cut off")
		}
		kind, size := binary.LittleEndian.Uint16(data), int(binary.LittleEndian.Uint16(data[2:]))
		data = data[attrHeader:]
		if size > len(data) {
			return nil, errs.Invalidf("bad stream: an attribute of %d bytes where %d are left", size, len(data))
		}
		if _, ok := attrs[kind]; ok {
			return nil, errs.Invalidf("bad stream: a command has attribute %d twice", kind)
		}
		attrs[kind] = data[:size]
		data = data[size:]
	}
	return attrs, nil
}
