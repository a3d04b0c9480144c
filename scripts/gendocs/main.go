// Gendocs writes the pages of docs that are made from tables in the code:
//
//	go run ./scripts/gendocs docs
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cuib/cuib/profiles"
)

// pages are what it writes, by file name.
var pages = map[string]func(io.Writer){"config-keys.md": configKeys, "compatibility.md": compatibility}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the directory of the pages, got %q", args)
	}
	for name, write := range pages {
		var b strings.Builder
		write(&b)
		if err := os.WriteFile(filepath.Join(args[0], name), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func configKeys(w io.Writer) {
	fmt.Fprint(w, `# Configuration of instances, profiles, networks, projects and the server

This page is made by `+"`make gen`"+` from the tables in `+"`profiles`, `lxd-like/netkeys`, `lxd-like/projectkeys` and `lxd-like/serverkeys`"+`; change those instead.

A key is *live* if a change reaches a running instance at once. Another one counts from the next start on.

## Keys
`)
	group := ""
	for _, k := range profiles.Keys() {
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(w, "\n### %s\n\n| key | value | default | live | |\n|---|---|---|---|---|\n", group)
		}
		live := "no"
		if k.Live {
			live = "yes"
		}
		row(w, code(k.Name), value(k), k.Default, live, doc(k))
	}
	fmt.Fprint(w, "\n## Devices\n\nEvery device has a `type`, and may have `user.*` options of any kind.\n")
	for _, t := range profiles.DeviceTypes() {
		fmt.Fprintf(w, "\n### %s\n\n%s\n", t.Name, t.Doc)
		if len(t.Options) == 0 {
			continue
		}
		fmt.Fprint(w, "\n| option | value | default | |\n|---|---|---|---|\n")
		for _, o := range t.Options {
			what := doc(o.Key)
			if o.Required {
				what = "Required. " + what
			}
			row(w, code(o.Name), value(o.Key), o.Default, what)
		}
	}
	networkKeys(w)
	projectKeys(w)
	serverKeys(w)
}

func value(k profiles.Key) string {
	if k.Allowed == "" {
		return "any text"
	}
	return k.Allowed
}

func doc(k profiles.Key) string {
	if k.Condition == "" {
		return k.Doc
	}
	return k.Doc + " (Only: " + k.Condition + ".)"
}

func code(s string) string { return "`" + s + "`" }

func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}
