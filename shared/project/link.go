package project

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// Parts of the name of an interface, of which the kernel takes 15 bytes.
const (
	linkName = 8 // How much of the network's name is in it.
	linkHash = 6 // How many letters and digits tell it from others.
)

var linkEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Link is the name of the interface of the network that has a key, and of all
// that is made for that interface: in the default project the network's name,
// in others its beginning and what tells it from those of other projects.
func Link(key string) string {
	of, name := Split(key)
	if of == Default {
		return name
	}
	sum := sha256.Sum256([]byte(key))
	return name[:min(len(name), linkName)] + "-" + strings.ToLower(linkEncoding.EncodeToString(sum[:]))[:linkHash]
}

// Quote is how texts name what has a key, if they are read in whichever project.
func Quote(key string) string {
	of, name := Split(key)
	return quote(of, name)
}

// QuoteInstance is [Quote] for instances.
func QuoteInstance(key string) string {
	of, name := SplitInstance(key)
	return quote(of, name)
}

func quote(of, name string) string {
	if of == Default {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q of project %q", name, of)
}
