package nic

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// What waits at a limit, at most: so long that TCP gets all of it, and not so
// long that everything else comes late. What comes after a pause passes at
// once, as much as the kernel's timer could miss.
const (
	queueMillis = 50
	burstMillis = 10
	leastBurst  = 16 << 10
	leastQueue  = 64 << 10
)

// admit has nftables look at what comes from the guest, and limits what passes
// the host's end, in either direction. What comes to the guest leaves there.
// What comes from it nftables leads through an interface that it leaves again,
// as only there it can wait.
func (h Host) admit(n NIC, outer netlink.Link) error {
	if err := h.limit(outer, n.Ingress); err != nil {
		return fmt.Errorf("limit what comes to %s: %w", n.Name, err)
	}
	if n.Egress == 0 {
		return errors.Join(h.filter(n), h.removeLink(n.shaper()))
	}
	through, err := h.addShaper(n)
	if err != nil {
		return fmt.Errorf("limit what comes from %s: %w", n.Name, err)
	}
	if err := h.limit(through, n.Egress); err != nil {
		return fmt.Errorf("limit what comes from %s: %w", n.Name, err)
	}
	return h.filter(n)
}

// shaper is the interface that a guest's packets pass at a limit.
func (n NIC) shaper() string { return "cf" + strings.TrimPrefix(n.inner(), "cu") }

func (h Host) addShaper(n NIC) (netlink.Link, error) {
	l, err := h.Net.LinkByName(n.shaper())
	if missing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.shaper()
		err = h.Net.LinkAdd(&netlink.Ifb{LinkAttrs: attrs})
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, errs.Newf(errs.Unsupported, "the kernel has no interfaces of type ifb")
		}
		if err == nil {
			l, err = h.Net.LinkByName(n.shaper())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", n.shaper(), err)
	}
	return l, h.Net.LinkSetUp(l)
}

// limit limits what leaves by an interface; a rate of 0 is no limit.
func (h Host) limit(l netlink.Link, rate int64) error {
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if rate == 0 {
		err := h.Net.QdiscDel(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "tbf"})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // There is none.
			return nil
		}
		return err
	}
	q := bucket(rate, l.Attrs().MTU)
	q.QdiscAttrs = attrs
	if err := h.Net.QdiscReplace(q); err != nil {
		return fmt.Errorf("set %d bit/s on %s: %w", rate, l.Attrs().Name, err)
	}
	return nil
}

// bucket is how the kernel limits to a rate in bits in a second. It cuts larger
// packets than the burst into those of the wire.
func bucket(rate int64, mtu int) *netlink.Tbf {
	bytes := max(rate/8, 1)
	burst := max(bytes*burstMillis/1000, leastBurst, 2*int64(mtu))
	limit := min(burst+max(bytes*queueMillis/1000, leastQueue), math.MaxUint32)
	return &netlink.Tbf{
		Rate: uint64(bytes), Limit: uint32(limit), //nolint:gosec // They are within bounds.
		Buffer: netlink.Xmittime(uint64(bytes), uint32(min(burst, math.MaxUint32))), //nolint:gosec // As above.
	}
}
