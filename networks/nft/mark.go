package nft

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// markType tells the mark of a rule from what others keep with it. It is none
// that nft knows, which therefore does not show it.
const markType userdata.Type = 0xc1

// mark returns what is kept with a rule of ours: who edits a rule makes another
// in its place, which has not got it. It depends on what the rule does: a rule of
// another configuration has another mark.
func mark(r rule) []byte {
	h := sha256.New()
	for _, x := range r {
		if l, ok := x.(*expr.Lookup); ok {
			x = &expr.Lookup{SetName: named(l.SetName), SourceRegister: l.SourceRegister, DestRegister: l.DestRegister, IsDestRegSet: l.IsDestRegSet, Invert: l.Invert}
		}
		if d, ok := x.(*expr.Dynset); ok {
			x = &expr.Dynset{SetName: d.SetName, SrcRegKey: d.SrcRegKey, Operation: d.Operation, Timeout: d.Timeout}
		}
		raw, err := expr.Marshal(byte(nftables.TableFamilyINet), x)
		if err != nil { // Which the kernel will not have either.
			raw = []byte(err.Error())
		}
		fmt.Fprintf(h, "%d ", len(raw))
		h.Write(raw)
	}
	return userdata.Append(nil, markType, h.Sum(nil)[:16])
}

// named returns the name of a set, or nothing for one that has its name from the
// kernel.
func named(set string) string {
	if strings.HasPrefix(set, "__") {
		return ""
	}
	return set
}

// newRule is a rule of ours for the kernel.
func newRule(t *nftables.Table, ch *nftables.Chain, r rule) *nftables.Rule {
	return &nftables.Rule{Table: t, Chain: ch, Exprs: r, UserData: mark(r)}
}

// kept has chains know what is kept with their rules.
func kept(all []chain) []chain {
	for i := range all {
		all[i].kept = all[i].marks()
	}
	return all
}

// marks returns what is kept with the rules of a chain.
func (ch chain) marks() [][]byte {
	if ch.kept != nil {
		return ch.kept
	}
	out := make([][]byte, len(ch.rules))
	for i, r := range ch.rules {
		out[i] = mark(r)
	}
	return out
}

// same tells whether the kernel calls a chain as it is wanted to.
func same(got, want *nftables.Chain) bool {
	if (got.Hooknum == nil) != (want.Hooknum == nil) {
		return false
	}
	if want.Hooknum == nil { // Only other chains call it.
		return true
	}
	policy := want.Policy == nil || got.Policy != nil && *got.Policy == *want.Policy
	return policy && *got.Hooknum == *want.Hooknum && got.Type == want.Type && got.Priority != nil && *got.Priority == *want.Priority
}
