package profiles

import (
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// A Need is something of the host that an instance waits for.
type Need struct {
	Kind NeedKind
	Name string // Of the pool or network, or the path.
}

// A NeedKind is what a [Need] is of.
type NeedKind string

// The kinds of needs.
const (
	NeedPool    NeedKind = "pool"
	NeedNetwork NeedKind = "network" // Or an interface of the host.
	NeedPath    NeedKind = "path"
)

// String returns the need as boot.wait_for has it.
func (n Need) String() string { return string(n.Kind) + ":" + n.Name }

// listed returns the items of a list with commas, which must all be there and
// different.
func listed(v string) ([]string, error) {
	var items []string
	for item := range strings.SplitSeq(v, ",") {
		item = strings.Trim(item, " ")
		if item == "" || slices.Contains(items, item) {
			return nil, errNo
		}
		items = append(items, item)
	}
	return items, nil
}

// parseNeeds reads boot.wait_for.
func parseNeeds(v string) ([]Need, error) {
	items, err := listed(v)
	if err != nil {
		return nil, err
	}
	needs := make([]Need, 0, len(items))
	for _, item := range items {
		kind, name, _ := strings.Cut(item, ":")
		n := Need{NeedKind(kind), name}
		if err := n.check(); err != nil {
			return nil, err
		}
		needs = append(needs, n)
	}
	return needs, nil
}

func (n Need) check() error {
	switch n.Kind {
	case NeedPool:
		return CheckPoolName(n.Name)
	case NeedNetwork:
		if CheckNetworkName(n.Name) == nil {
			return nil
		}
		return checkIfname(n.Name)
	case NeedPath:
		if len(n.Name) < maxPath && hostPath(n.Name) {
			return nil
		}
	}
	return errNo
}

// maxPath is PATH_MAX of the kernel, with the zero byte.
const maxPath = 4096

// parseDependencies reads boot.depends_on.
func parseDependencies(v string) ([]string, error) {
	names, err := listed(v)
	for _, name := range names {
		if CheckInstanceName(name) != nil {
			return nil, errs.Invalidf("%q is no name of an instance", name)
		}
	}
	return names, err
}

// parseModules reads linux.kernel_modules.
func parseModules(v string) ([]string, error) {
	names, err := listed(v)
	for _, name := range names {
		if len(name) > 55 || !only(name, letters+digits+"_-") || name[0] == '-' { // MODULE_NAME_LEN of the kernel.
			return nil, errNo
		}
	}
	return names, err
}
