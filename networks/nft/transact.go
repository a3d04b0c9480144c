package nft

import (
	"fmt"
	"io"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A transaction is what the kernel changes at once, or nothing of it. The library
// would have each message answered, and each rule sent back, which takes longer
// than the change: it only writes the messages.
type transaction struct {
	*nftables.Conn

	more   []netlink.Message // What the library cannot write; it comes last.
	failed error
}

// begin begins a transaction. Its connection cannot read.
func begin() (*transaction, error) {
	x := &transaction{}
	c, err := nftables.New(nftables.WithTestDial(x.send))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	x.Conn = c
	return x, nil
}

// commit has the kernel do it.
func (x *transaction) commit() error {
	if err := x.Flush(); err != nil {
		return err
	}
	return x.failed
}

// send is called by the library with a whole transaction, or with nothing for
// answers, of which there are none.
func (x *transaction) send(messages []netlink.Message) ([]netlink.Message, error) {
	if len(messages) > 0 {
		x.failed = deliver(slices.Insert(slices.Clone(messages), len(messages)-1, x.more...))
	}
	return nil, io.EOF
}

// room is how large a transaction may be.
const room = 64 << 20

// deliver sends a transaction with its begin and its end. The kernel tells what
// it refuses, and then that it has done the last message.
func deliver(messages []netlink.Message) error {
	for i := range messages {
		messages[i].Header = netlink.Header{
			Type: messages[i].Header.Type, Flags: messages[i].Header.Flags &^ (netlink.Acknowledge | netlink.Echo),
		}
	}
	messages[len(messages)-2].Header.Flags |= netlink.Acknowledge
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteBuffer(room); err != nil {
		return fmt.Errorf("make room for a transaction of nftables: %w", err)
	}
	if _, err := c.SendMessages(messages); err != nil {
		return err
	}
	_, err = c.Receive()
	return err
}
