package main

import (
	"fmt"
	"io"

	"github.com/cuib/cuib/lxd-like/projectkeys"
)

// projectKeys writes the table of keys of projects.
func projectKeys(w io.Writer) {
	fmt.Fprint(w, "\n## Projects\n\nA change of any key counts at once, and is refused while the project has what would not be allowed. How limits and restrictions work is in [project-limits.md](project-limits.md).\n")
	group := ""
	for _, k := range projectkeys.Keys() {
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(w, "\n### projects: %s\n\n| key | value | default | |\n|---|---|---|---|\n", group)
		}
		what := doc(k.Key)
		if k.Vacuous != "" {
			what += " It is kept and has no effect: " + k.Vacuous + "."
		}
		row(w, code(k.Name), value(k.Key), k.Default, what)
	}
	fmt.Fprint(w, "\nWhat LXD and Incus have besides is refused with the reason:\n\n| reason | key |\n|---|---|\n")
	for _, r := range projectkeys.Refusals() {
		name := code(r.Name)
		if r.Value != "" {
			name += " other than " + code(r.Value)
		}
		row(w, r.Why, name)
	}
}
