package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// limitChain has the rule that leads packets through a limit. It comes last, and
// not from tc: that would come before all filters, and what comes back from an
// ifb passes none.
func limitChain(link string) string { return "through_" + portName(link) } // "limit" is a word of nft's.

// limit leads all that comes in by a port out by an ifb, from where it goes on as
// if nothing were. There is none if the ifb is not there.
func (p Port) limit() rule {
	if p.Through == "" {
		return nil
	}
	l, err := netlink.LinkByName(p.Through)
	if err != nil {
		return nil
	}
	index := binaryutil.NativeEndian.PutUint32(uint32(l.Attrs().Index)) //nolint:gosec // It is positive.
	return rule{&expr.Immediate{Register: 1, Data: index}, forwardTo{&expr.Dup{RegAddr: 1}}}
}

// A forwardTo leads a packet to the interface in a register. The library does not
// know the expression, which is written as dup, but for its name.
type forwardTo struct{ *expr.Dup }

// refused tells what a kernel lacks that refuses the limit of a port.
func (p Port) refused(err error) error {
	if p.Through != "" && errors.Is(err, unix.ENOENT) && isHere(p.Link) {
		return errs.Newf(errs.Unsupported, "limits.egress: the kernel does not lead packets on by nftables (nft_fwd_netdev): %w", err)
	}
	return err
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
