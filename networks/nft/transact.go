package nft

import (
	"encoding/binary"
	"errors"
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

	rules  []netlink.Message // They come last, and need what comes before.
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
	if x.failed != nil {
		return x.failed
	}
	if err := x.Flush(); err != nil {
		return err
	}
	return x.failed
}

// addRule adds a rule to a chain, which the library would do more slowly.
func (x *transaction) addRule(ch *nftables.Chain, r rule) {
	w := newWriter(ch.Table.Family)
	for _, e := range r {
		w.write(e)
	}
	if w.err != nil {
		x.failed = fmt.Errorf("write a rule of nftables: %w", w.err)
	}
	data := append(make([]byte, 0, len(w.rule)+usual), byte(ch.Table.Family), unix.NFNETLINK_V0, 0, 0)
	data = attribute(data, unix.NFTA_RULE_TABLE, []byte(ch.Table.Name+"\x00"))
	data = attribute(data, unix.NFTA_RULE_CHAIN, []byte(ch.Name+"\x00"))
	data = attribute(data, unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, w.rule)
	data = attribute(data, unix.NFTA_RULE_USERDATA, w.mark())
	x.rules = append(x.rules, netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE, Flags: netlink.Request | netlink.Create | netlink.Append},
		Data:   data,
	})
}

// send is called by the library with a whole transaction, or with nothing for
// answers, of which there are none.
func (x *transaction) send(messages []netlink.Message) ([]netlink.Message, error) {
	if len(messages) > 0 {
		x.failed = deliver(slices.Insert(slices.Clone(messages), len(messages)-1, x.rules...))
	}
	return nil, io.EOF
}

// room is how large a transaction may be.
const room = 64 << 20

// deliver sends a transaction with its begin and its end. The kernel tells what
// it refuses, and then that it has done the last message.
func deliver(messages []netlink.Message) error {
	for i := range messages {
		messages[i].Header.Flags &^= netlink.Acknowledge | netlink.Echo
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
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), written(messages), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("send a transaction of nftables: %w", err)
	}
	_, err = c.Receive()
	return err
}

// written are messages as the kernel reads them.
func written(messages []netlink.Message) []byte {
	size := 0
	for _, m := range messages {
		size += unix.NLMSG_HDRLEN + len(m.Data) + unix.NLMSG_ALIGNTO
	}
	all := make([]byte, 0, size)
	order := binary.NativeEndian
	for i, m := range messages {
		all = order.AppendUint32(all, uint32(unix.NLMSG_HDRLEN+len(m.Data))) //nolint:gosec // It is shorter than a transaction.
		all = order.AppendUint16(all, uint16(m.Header.Type))
		all = order.AppendUint16(all, uint16(m.Header.Flags))
		all = order.AppendUint32(all, uint32(i)) //nolint:gosec // They are as many as fit into one.
		all = order.AppendUint32(all, 0)
		all = append(all, m.Data...)
		for len(all)%unix.NLMSG_ALIGNTO != 0 {
			all = append(all, 0)
		}
	}
	return all
}
