package main

import (
	"fmt"
	"io"

	"github.com/cuib/cuib/lxd-like/serverkeys"
)

// serverKeys writes the table of keys of the server.
func serverKeys(w io.Writer) {
	fmt.Fprint(w, "\n## The server\n\nThey are set without the name of an instance: `cuib config set KEY=VALUE`. A change of any key counts at once.\n\n| key | value | default | |\n|---|---|---|---|\n")
	for _, k := range serverkeys.Keys() {
		row(w, code(k.Name), value(k.Key), k.Default, doc(k.Key))
	}
	fmt.Fprint(w, "\nWhat LXD and Incus have besides is refused with the reason:\n\n| reason | key |\n|---|---|\n")
	for _, r := range serverkeys.Refusals() {
		row(w, r.Why, codes(r.Names))
	}
}
