package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// limitChain has the rule that leads packets through a limit. It comes last, and
// not from tc: that would come before all filters, and what comes back from an
// ifb passes none.
func limitChain(link string) string { return "through_" + portName(link) } // "limit" is a word of nft's.

// limit leads all that comes in by a port out by an ifb, from where it goes on as
// if nothing were. There is none if the ifb is not there. The library does not
// know the expression, which is written as dup, but for its name.
func (p Port) limit() rule {
	if p.Through == "" {
		return nil
	}
	l, err := netlink.LinkByName(p.Through)
	if err != nil {
		return nil
	}
	index := binaryutil.NativeEndian.PutUint32(uint32(l.Attrs().Index)) //nolint:gosec // It is positive.
	return rule{&expr.Immediate{Register: 1, Data: index}, &expr.Dup{RegAddr: 1}}
}

// refused tells what a kernel lacks that refuses the limit of a port.
func (p Port) refused(err error) error {
	if p.Through != "" && errors.Is(err, unix.ENOENT) && isHere(p.Link) {
		return errs.Newf(errs.Unsupported, "limits.egress: the kernel does not lead packets on by nftables (nft_fwd_netdev): %w", err)
	}
	return err
}

// forward adds the rule of a limit to its chain.
func (x *transaction) forward(ch *nftables.Chain, r rule) error {
	m, err := forwardRule(ch, r)
	if err != nil {
		return fmt.Errorf("write a rule of nftables: %w", err)
	}
	x.more = append(x.more, m)
	return nil
}

func forwardRule(ch *nftables.Chain, r rule) (m mdlayher.Message, err error) {
	var list []mdlayher.Attribute
	for _, x := range r {
		raw, err := expr.Marshal(byte(ch.Table.Family), x)
		if err != nil {
			return m, err
		}
		if _, ok := x.(*expr.Dup); ok {
			raw = bytes.Replace(raw, []byte("dup\x00"), []byte("fwd\x00"), 1)
		}
		list = append(list, mdlayher.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: raw})
	}
	all, err := mdlayher.MarshalAttributes(list)
	if err != nil {
		return m, err
	}
	data, err := mdlayher.MarshalAttributes([]mdlayher.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(ch.Table.Name + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(ch.Name + "\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: all},
		{Type: unix.NFTA_RULE_USERDATA, Data: mark(r)},
	})
	if err != nil {
		return m, err
	}
	m.Header.Type = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	m.Header.Flags = mdlayher.Request | mdlayher.Create | mdlayher.Append
	m.Data = append([]byte{byte(ch.Table.Family), unix.NFNETLINK_V0, 0, 0}, data...)
	return m, nil
}

// unlead takes away what former daemons led packets through the limit with,
// which came before all filters.
func (p Port) unlead() error {
	if p.Through == "" {
		return nil
	}
	from, err := netlink.LinkByName(p.Link)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at network interface %s: %w", p.Link, err)
	}
	handle := netlink.MakeHandle(0xffff, 0)
	filters, err := netlink.FilterList(from, handle)
	if err != nil {
		return fmt.Errorf("look for the former limit of %s: %w", p.Link, err)
	}
	if !slices.ContainsFunc(filters, mirrors) {
		return nil
	}
	err = netlink.QdiscDel(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: from.Attrs().Index, Handle: handle, Parent: netlink.HANDLE_INGRESS}})
	if err != nil {
		return fmt.Errorf("take the former limit of %s away: %w", p.Link, err)
	}
	return nil
}

// mirrors tells whether a filter leads all on.
func mirrors(f netlink.Filter) bool {
	u, ok := f.(*netlink.U32)
	return ok && slices.ContainsFunc(u.Actions, func(a netlink.Action) bool { return a.Type() == "mirred" })
}
