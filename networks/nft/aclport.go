package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
)

// policyChain is the name of a chain that several ports can call.
func policyChain(key, direction string) string { return "policy_" + key + "_" + direction }

// policyContents are the chains of a policy, and the sets that they need. What
// is allowed goes back to the port's chain, which remembers the connection.
func policyContents(key string, p *acl.Policy, n *ids) ([]set, []chain) {
	w := newACLWriter(p, n, leave(), accept())
	out := w.chain(policyChain(key, acl.Egress), acl.Egress, p.Egress)
	w.mute = true // The kernel answers only what it has just got.
	in := w.chain(policyChain(key, acl.Ingress), acl.Ingress, p.Ingress)
	return w.sets(), []chain{out, in, needs(key, acl.Egress, portAsks()), needs(key, acl.Ingress, portHears(p))}
}

// needsChain is the name of a chain with what passes whatever a policy says.
func needsChain(key, direction string) string { return "needs_" + key + "_" + direction }

func needs(key, direction string, needed []rule) chain {
	ch := chain{Chain: &nftables.Chain{Name: needsChain(key, direction)}}
	for _, n := range slices.Concat(later(), needed) {
		ch.rules = append(ch.rules, join(n, accept()))
	}
	return ch
}

// addPolicy makes the chains of a policy, or makes them anew.
func (b *batch) addPolicy(key string, p *acl.Policy) error {
	c, t := b.c, b.t
	sets, chains := policyContents(key, p, &b.ids)
	for _, s := range sets {
		if err := s.add(c.Conn, t); err != nil {
			return err
		}
		c.FlushSet(s.Set) // It can be there already.
		if err := s.fill(c.Conn); err != nil {
			return err
		}
	}
	b.addChains(chains)
	return nil
}

// addChains makes chains, or makes them anew. Those that are called come first.
func (b *batch) addChains(chains []chain) {
	c, t := b.c, b.t
	for _, ch := range chains {
		ch.Table = t
		c.AddChain(ch.Chain)
		c.FlushChain(ch.Chain)
		for _, r := range ch.rules {
			c.addRule(ch.Chain, r)
		}
	}
}

func countPolicy(t *nftables.Table, key string, p *acl.Policy) ([]Count, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	w := newACLWriter(p, &ids{}, leave(), accept())
	out, err := w.counts(c, &nftables.Chain{Table: t, Name: policyChain(key, acl.Egress)}, acl.Egress, p.Egress)
	if err != nil {
		return nil, err
	}
	w.mute = true
	in, err := w.counts(c, &nftables.Chain{Table: t, Name: policyChain(key, acl.Ingress)}, acl.Ingress, p.Ingress)
	return append(in, out...), err
}

// portContents are the chains of a port and the sets with its connections.
func portContents(p ACLPort, policy *acl.Policy, n *ids) ([]flows, []chain) {
	name := portName(p.Link)
	both := flowsOf(name, n)
	var all []chain
	for _, d := range []struct {
		direction string
		hook      *nftables.ChainHook
		asks      []rule
	}{
		{acl.Egress, nftables.ChainHookIngress, namesAsked(policy)},
		{acl.Ingress, nftables.ChainHookEgress, nil},
	} {
		begin := chain{Chain: &nftables.Chain{Name: "begin_" + d.direction + "_" + name}}
		filter := chain{Chain: &nftables.Chain{Name: "filter_" + d.direction + "_" + name}}
		for _, f := range both {
			filter.rules = append(filter.rules, f.pass(d.direction)...)
			begin.rules = append(begin.rules, f.begin(d.direction)...)
		}
		begin.rules = append(begin.rules, accept())
		filter.rules = append(filter.rules, jump(needsChain(keyOf(p.Ref), d.direction)))
		for _, a := range d.asks {
			filter.rules = append(filter.rules, join(a, rule{goTo(begin.Name)}))
		}
		filter.rules = append(
			filter.rules,
			jump(policyChain(keyOf(p.Ref), d.direction)),
			rule{goTo(begin.Name)},
		)
		all = append(all, begin, filter, portHook(p.Link, d.direction, name, d.hook, filter.Name))
	}
	return both, all
}

func jump(to string) rule { return rule{&expr.Verdict{Kind: expr.VerdictJump, Chain: to}} }

// portHook is the chain that the kernel calls. Only addresses and what ACLs can
// tell of pass: in other frames everything could hide.
func portHook(link, direction, name string, hook *nftables.ChainHook, to string) chain {
	policy := nftables.ChainPolicyAccept
	return chain{
		Chain: &nftables.Chain{
			Name: "hook_" + direction + "_" + name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &policy,
			Device: link,
		},
		rules: []rule{
			join(frame(unix.ETH_P_IP), rule{goTo(to)}),
			join(frame(unix.ETH_P_IPV6), rule{goTo(to)}),
			join(frame(unix.ETH_P_ARP), accept()),
			drop(),
		},
	}
}

// portAsks is what every guest tells and asks, and needs no connection.
func portAsks() []rule {
	return slices.Concat(
		[]rule{
			join(protocolIs(false), fromPort(68), port(unix.IPPROTO_UDP, 67)),
			join(protocolIs(true), fromPort(546), port(unix.IPPROTO_UDP, 547)),
		},
		icmp4Errors(), icmp6Types(1, 4), icmp6Types(mldReport, mldDone), icmp6Types(routerSolicit, routerSolicit),
		icmp6Types(neighborAsk, neighborAnswer), icmp6Types(mld2Report, mld2Report),
	)
}

// portHears is what every guest has to hear: addresses from the host, routers
// and neighbors on its own link.
func portHears(p *acl.Policy) []rule {
	var all []rule
	for _, a := range gateways(p, false) {
		all = append(all, join(protocolIs(false), payload(expr.PayloadBaseNetworkHeader, 12, a.AsSlice(), expr.CmpOpEq), fromPort(67), port(unix.IPPROTO_UDP, 68)))
	}
	near := address(8, linkLocal, expr.CmpOpEq)
	// That nobody listens, also by reject, where the host says so itself.
	reset := join(proto(unix.IPPROTO_TCP), tcpFlags(tcpReset))
	return slices.Concat(
		all,
		[]rule{reset, join(protocolIs(true), near, fromPort(547), port(unix.IPPROTO_UDP, 546))},
		icmp4Errors(), icmp6Types(1, 4), icmp6Types(mldQuery, mldQuery), icmp6Types(neighborAsk, neighborAnswer),
		[]rule{join(protocolIs(true), near, icmp6Types(routerAdvert, routerAdvert)[0])},
	)
}

// namesAsked are questions for names to the host.
func namesAsked(p *acl.Policy) []rule {
	var all []rule
	for _, six := range []bool{false, true} {
		_, destination := addressOffsets(six)
		for _, a := range gateways(p, six) {
			to := payload(expr.PayloadBaseNetworkHeader, destination, a.AsSlice(), expr.CmpOpEq)
			all = append(all, join(protocolIs(six), to, port(unix.IPPROTO_UDP, 53)), join(protocolIs(six), to, port(unix.IPPROTO_TCP, 53)))
		}
	}
	return all
}

// addPort makes the chains of a port, or makes them anew, and the sets with its
// connections if they are not there.
func (b *batch) addPort(p ACLPort, policy *acl.Policy) error {
	both, chains := portContents(p, policy, &b.ids)
	for _, f := range both {
		if err := f.addTo(b.c, b.t); err != nil {
			return err
		}
	}
	b.addChains(chains)
	return nil
}

// removePort takes away what is there of a port.
func (b *batch) removePort(p ACLPort, policy *acl.Policy) error {
	both, chains := portContents(p, policy, &b.ids)
	slices.Reverse(chains)
	if err := b.removeChains(chains); err != nil {
		return err
	}
	for _, f := range both {
		for _, s := range f.sets() {
			s.Table = b.t
			b.c.DelSet(s)
		}
	}
	return nil
}

func (b *batch) removeChains(chains []chain) error {
	var names []string
	for _, ch := range chains {
		names = append(names, ch.Name)
	}
	return b.c.removeChains(b.t, names...)
}

// removePolicy takes away the chains of a policy, and those of its sets that are
// not to be kept.
func (b *batch) removePolicy(g gonePolicy) error {
	sets, chains := policyContents(g.key, g.policy, &b.ids)
	if err := b.removeChains(chains); err != nil {
		return err
	}
	for _, s := range sets {
		if !g.keep[s.Name] {
			s.Table = b.t
			b.c.DelSet(s.Set)
		}
	}
	return nil
}
