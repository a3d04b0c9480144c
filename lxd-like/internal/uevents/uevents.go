// Package uevents hears what the kernel, and udev after it, tell of devices
// that come and go, sees device nodes that somebody makes and removes, and
// tells guests of what is given to them and taken.
package uevents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// An Event is what happened to a device.
type Event struct {
	Action     string   // add, remove, change and so on.
	Path       string   // Of the device below /sys.
	Properties []string // NAME=VALUE; ACTION and DEVPATH are not among them.
}

// Get returns a property, or nothing if the device does not have it.
func (e Event) Get(name string) string {
	for _, p := range e.Properties {
		if value, ok := strings.CutPrefix(p, name+"="); ok {
			return value
		}
	}
	return ""
}

// Message is the event as the kernel tells it, but for its number in the order
// of all, which the kernel adds.
func (e Event) Message() []byte {
	var b bytes.Buffer
	b.WriteString(e.Action + "@" + e.Path + "\x00ACTION=" + e.Action + "\x00DEVPATH=" + e.Path + "\x00")
	for _, p := range e.Properties {
		b.WriteString(p + "\x00")
	}
	return b.Bytes()
}

const (
	udevPrefix = "libudev\x00"
	udevMagic  = 0xfeedcafe
	// Where the header of udev's messages has the magic number, and the place
	// and the size of the properties; and how long it is at least.
	udevMagicAt, udevPlaceAt, udevSizeAt, udevHeader = 8, 16, 20, 24
)

// Parse reads a message of the kernel or of udev.
func Parse(msg []byte) (Event, bool) {
	var e Event
	properties, ok := propertiesOf(msg)
	if !ok {
		return e, false
	}
	for part := range strings.SplitSeq(strings.TrimRight(string(properties), "\x00"), "\x00") {
		name, value, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			return e, false
		case name == "ACTION":
			e.Action = value
		case name == "DEVPATH":
			e.Path = value
		default:
			e.Properties = append(e.Properties, part)
		}
	}
	return e, e.Action != "" && e.Path != ""
}

// propertiesOf returns the part of a message that has properties.
func propertiesOf(msg []byte) ([]byte, bool) {
	if !bytes.HasPrefix(msg, []byte(udevPrefix)) {
		head, rest, ok := bytes.Cut(msg, []byte{0})
		return rest, ok && bytes.Contains(head, []byte("@"))
	}
	if len(msg) < udevHeader || binary.BigEndian.Uint32(msg[udevMagicAt:]) != udevMagic {
		return nil, false
	}
	place, size := binary.NativeEndian.Uint32(msg[udevPlaceAt:]), binary.NativeEndian.Uint32(msg[udevSizeAt:])
	if uint64(place)+uint64(size) > uint64(len(msg)) {
		return nil, false
	}
	return msg[place : place+size], true
}

// ErrLost is that events came faster than they were read, so that some are
// missing.
var ErrLost = errors.New("events of devices were lost")

// A Listener hears of the host's devices.
type Listener struct {
	file *os.File
	buf  []byte
}

// The groups that are told of devices: by the kernel, and by udev when it has
// made its links.
const groups = 1 | 2

// Room for events that were not read yet, and for one of them.
const (
	backlog = 4 << 20
	largest = 16 << 10
)

// Listen begins to listen.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, backlog) // With less room more is lost, which is seen.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return &Listener{os.NewFile(uintptr(fd), "uevents"), make([]byte, largest)}, nil
}

// Next waits for an event. It fails with [ErrLost], after which others come,
// and with [os.ErrClosed].
func (l *Listener) Next() (Event, error) {
	for {
		n, err := l.file.Read(l.buf)
		if errors.Is(err, unix.ENOBUFS) {
			return Event{}, ErrLost
		}
		if err != nil {
			return Event{}, err
		}
		if e, ok := Parse(l.buf[:n]); ok {
			return e, nil
		}
	}
}

// Close ends the listener.
func (l *Listener) Close() { l.file.Close() }

// Send tells those who listen in a network namespace of an event, as the kernel
// tells those of the host's.
func Send(ns *os.File, e Event) error {
	// What the kernel does not take for one of its own kinds of message.
	const kind = unix.NLMSG_MIN_TYPE
	socket, err := nl.GetNetlinkSocketAt(netns.NsHandle(int(ns.Fd())), netns.None(), unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return err
	}
	defer socket.Close()
	req := nl.NewNetlinkRequest(kind, 0)
	req.AddRawData(e.Message())
	return socket.Send(req)
}
