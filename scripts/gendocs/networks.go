package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cuib/cuib/lxd-like/netkeys"
)

// networkKeys writes the table of keys of networks.
func networkKeys(w io.Writer) {
	fmt.Fprint(w, "\n## Networks\n\nA change of any key reaches the network at once, and what runs on it.\n")
	group := ""
	for _, k := range netkeys.Keys() {
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(w, "\n### networks: %s\n\n| key | value | default | types | |\n|---|---|---|---|---|\n", group)
		}
		row(w, code(k.Name), value(k.Key), k.Default, strings.Join(k.Types, ", "), doc(k.Key))
	}
	fmt.Fprint(w, "\n### network zones\n\n| key | value | default | |\n|---|---|---|---|\n")
	for _, k := range netkeys.ZoneKeys() {
		row(w, code(k.Name), value(k), k.Default, doc(k))
	}
	fmt.Fprint(w, "\nWhat LXD and Incus have besides is refused with the reason:\n\n| reason | key |\n|---|---|\n")
	names, reasons := map[string][]string{}, []string{}
	for _, r := range netkeys.Refusals() {
		if names[r.Why] == nil {
			reasons = append(reasons, r.Why)
		}
		name := code(r.Name)
		if r.Value != "" {
			name = code(r.Name + "=" + r.Value)
		}
		if len(r.Types) > 0 {
			name += " of " + strings.Join(r.Types, ", ")
		}
		names[r.Why] = append(names[r.Why], name)
	}
	for _, why := range reasons {
		row(w, why, strings.Join(names[why], ", "))
	}
}
