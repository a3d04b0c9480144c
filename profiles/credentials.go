package profiles

import (
	"encoding/base64"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// credentials returns what systemd is to get.
func (o options) credentials() (map[string][]byte, error) {
	var out map[string][]byte
	texts, encoded := o.below(prefixCredential), o.below(prefixBinaryCredential)
	if len(texts)+len(encoded) > 0 {
		out = map[string][]byte{}
	}
	for name, v := range texts {
		out[name] = []byte(v)
	}
	for name, v := range encoded {
		if _, twice := out[name]; twice {
			return nil, errs.Invalidf("%s%s and %s%s: want one of them", prefixCredential, name, prefixBinaryCredential, name)
		}
		data, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return nil, wrap(prefixBinaryCredential+name, err)
		}
		out[name] = data
	}
	return out, nil
}

// rules returns the lines of a text that say something.
func rules(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}
