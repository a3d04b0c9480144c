// Package uuid makes identifiers that nothing else has.
package uuid

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// New returns a random UUID, of version 4 (RFC 9562).
func New() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never fails.
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
