package nft

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// markType tells the mark of a rule from what others keep with it. It is none
// that nft knows, which therefore does not show it.
const markType userdata.Type = 0xc1

// A writer writes a rule of ours for the kernel, and what is kept with it.
type writer struct {
	family nftables.TableFamily
	rule   []byte
	sum    hash.Hash
	length [20]byte // Of an expression, as text.
	err    error
}

// mark returns what is kept with a rule of ours: who edits a rule makes another
// in its place, which has not got it. It depends on what the rule does: a rule of
// another configuration has another mark.
func mark(r rule) []byte {
	w := newWriter(nftables.TableFamilyINet)
	for _, x := range r {
		w.write(x)
	}
	return w.mark()
}

// usual is how long rules are, so that there is room for them.
const usual = 768

func newWriter(family nftables.TableFamily) *writer {
	return &writer{family: family, rule: make([]byte, 0, usual), sum: sha256.New()}
}

// mark is of all that was written.
func (w *writer) mark() []byte { return userdata.Append(nil, markType, w.sum.Sum(nil)[:16]) }

// write adds an expression. In the mark a set has no number, which differs.
func (w *writer) write(x expr.Any) {
	raw := w.marshal(x)
	w.rule = attribute(w.rule, unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, raw)
	switch x := x.(type) {
	case *expr.Lookup:
		raw = w.marshal(&expr.Lookup{SetName: named(x.SetName), SourceRegister: x.SourceRegister, DestRegister: x.DestRegister, IsDestRegSet: x.IsDestRegSet, Invert: x.Invert})
	case *expr.Dynset:
		raw = w.marshal(&expr.Dynset{SetName: x.SetName, SrcRegKey: x.SrcRegKey, Operation: x.Operation, Timeout: x.Timeout})
	}
	w.sum.Write(append(strconv.AppendInt(w.length[:0], int64(len(raw)), 10), ' '))
	w.sum.Write(raw)
}

func (w *writer) marshal(x expr.Any) []byte {
	raw, err := expr.Marshal(byte(w.family), x)
	if err != nil {
		w.err = err
		return []byte(err.Error())
	}
	if _, ok := x.(forwardTo); ok {
		raw = bytes.Replace(raw, []byte("dup\x00"), []byte("fwd\x00"), 1)
	}
	return raw
}

// attribute adds one of netlink to others.
func attribute(to []byte, typ uint16, data []byte) []byte {
	const header, align = 4, 4
	to = binary.NativeEndian.AppendUint16(to, uint16(header+len(data))) //nolint:gosec // Rules are short.
	to = binary.NativeEndian.AppendUint16(to, typ)
	to = append(to, data...)
	for range (align - len(data)%align) % align {
		to = append(to, 0)
	}
	return to
}

// named returns the name of a set, or nothing for one that has its name from the
// kernel.
func named(set string) string {
	if strings.HasPrefix(set, "__") {
		return ""
	}
	return set
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
