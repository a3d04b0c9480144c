package profiles

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// KeyAliases is the key with the other names of an instance.
const KeyAliases = "user.dns.aliases"

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// ParseAliases reads the other names of an instance.
func ParseAliases(v string) ([]string, error) {
	all := SplitList(v)
	for i, name := range all {
		if !hostName.MatchString(name) {
			return nil, errs.Invalidf("alias %q is not valid: use letters, digits and '-', at most 63", name)
		}
		if slices.ContainsFunc(all[:i], func(o string) bool { return strings.EqualFold(o, name) }) {
			return nil, errs.Invalidf("alias %q is there twice", name)
		}
	}
	if len(all) == 0 {
		return nil, errs.Invalidf("no names")
	}
	return all, nil
}
