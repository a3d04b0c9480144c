package axfr

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // as HMAC it is what RFC 8945 has for old servers
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/shared/errs"
)

// algorithms are those of RFC 8945 that are no broken ones.
var algorithms = map[string]func() hash.Hash{
	dns.HmacSHA1:   sha1.New,
	dns.HmacSHA224: sha256.New224,
	dns.HmacSHA256: sha256.New,
	dns.HmacSHA384: sha512.New384,
	dns.HmacSHA512: sha512.New,
}

// CheckSecret reports what is wrong with the secret of a key.
func CheckSecret(secret string) error {
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(raw) < 8 {
		return errs.Invalidf("the key is not valid: use at least 8 bytes in Base64, such as \"tsig-keygen\" or \"openssl rand -base64 32\" print them")
	}
	return nil
}

// A signer signs messages, and checks signatures, with keys that it looks up.
type signer struct {
	secret func(key string) (string, error)
}

var _ dns.TsigProvider = signer{}

// Generate returns the signature of a message.
func (s signer) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	algorithm, ok := algorithms[strings.ToLower(t.Algorithm)]
	if !ok {
		return nil, dns.ErrKeyAlg
	}
	secret, err := s.secret(strings.ToLower(t.Hdr.Name))
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, dns.ErrSecret
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return nil, err
	}
	h := hmac.New(algorithm, raw)
	_, _ = h.Write(msg) // It never fails.
	return h.Sum(nil), nil
}

// Verify reports whether a message's signature is wrong.
func (s signer) Verify(msg []byte, t *dns.TSIG) error {
	want, err := s.Generate(msg, t)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, got) {
		return dns.ErrSig
	}
	return nil
}
