package firewall

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// truth is whether a rule matches, as far as it is known.
type truth int

const (
	yes truth = iota
	no
	maybe
)

var truthOf = map[bool]truth{true: yes, false: no}

// not is the opposite of what is known.
func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	case maybe:
	}
	return maybe
}

// verdict is what becomes of a packet in a chain.
type verdict int

const (
	pass verdict = iota // It goes on in the chain that called this one.
	accept
	drop
)

// An outcome is the end of a packet's way through a chain.
type outcome struct {
	verdict     verdict
	chain, rule string // Of a drop.
	doubt       bool   // It may have been accepted before.
	risk        bool   // It may have been dropped before.
}

// depth is how deep the kernel lets chains call each other.
const depth = 16

// pass follows a packet through a base chain.
func (r *Ruleset) pass(base *nftables.Chain, p Packet) (outcome, error) {
	end, err := r.end(base, p)
	if end.doubt {
		end.verdict = pass
	}
	return end, err
}

// end is pass for who wants to know of a drop also if it is in doubt.
func (r *Ruleset) end(base *nftables.Chain, p Packet) (outcome, error) {
	end, err := r.walk(base, p, 0)
	if err != nil {
		return outcome{}, err
	}
	if end.verdict == pass && base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop {
		end.verdict, end.chain, end.rule = drop, base.Name, "policy drop"
	}
	return end, nil
}

// walk follows a packet through a chain and those that it calls.
func (r *Ruleset) walk(ch *nftables.Chain, p Packet, level int) (outcome, error) {
	if level > depth {
		return outcome{}, nil
	}
	rules, err := r.rulesOf(ch)
	if err != nil {
		return outcome{}, err
	}
	var so outcome // Doubts and risks so far.
	left := false  // It may have gone back to the chain that called this one.
	for _, rule := range rules {
		e := evaluation{r: r, packet: p, table: ch.Table}
		matches, v, err := e.rule(rule.Exprs)
		if err != nil {
			return outcome{}, err
		}
		if matches == no || v == nil {
			continue
		}
		end, over, err := r.follow(ch, rule, v, p, level)
		if err != nil {
			return outcome{}, err
		}
		if matches == maybe {
			so = so.with(end.doubt || end.verdict == accept, end.risk || end.verdict == drop)
			left = left || v.Kind == expr.VerdictReturn
			continue
		}
		so = so.with(end.doubt, end.risk)
		if over {
			return end.after(so, left), nil
		}
	}
	return so, nil
}

// with adds doubts and risks.
func (o outcome) with(doubt, risk bool) outcome {
	o.doubt, o.risk = o.doubt || doubt, o.risk || risk
	return o
}

// after is the end of a packet's way behind what was before. If it may have
// left the chain there, this end is not sure.
func (o outcome) after(before outcome, left bool) outcome {
	o.doubt, o.risk = before.doubt || left && o.verdict == drop, before.risk || left && o.verdict == accept
	return o
}

// follow does what a rule says with a packet that it matches. Over tells
// whether that ends the packet's way through the chain.
func (r *Ruleset) follow(ch *nftables.Chain, rule *nftables.Rule, v *expr.Verdict, p Packet, level int) (end outcome, over bool, err error) {
	if slices.Contains(accepting, v.Kind) {
		return outcome{verdict: accept}, true, nil
	}
	if v.Kind == expr.VerdictDrop {
		return outcome{verdict: drop, chain: ch.Name, rule: shown(rule)}, true, nil
	}
	to, ok := r.chain(ch.Table, v.Chain)
	if !ok {
		return outcome{}, v.Kind == expr.VerdictReturn, nil
	}
	end, err = r.walk(to, p, level+1)
	return end, end.verdict != pass || v.Kind == expr.VerdictGoto, err
}

// accepting are the verdicts after which a packet may live.
var accepting = []expr.VerdictKind{expr.VerdictAccept, expr.VerdictStolen, expr.VerdictQueue, expr.VerdictStop}
