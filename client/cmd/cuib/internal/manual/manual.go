// Package manual makes the man pages and the reference of all commands from
// their help texts.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Write writes the man pages of a command, and of all below it, into a
// directory, which it makes if it must.
func Write(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return each(root, func(cmd *cobra.Command) error {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		return os.WriteFile(filepath.Join(dir, name+".1"), []byte(Page(cmd)), 0o644)
	})
}

// each calls fn for a command and all below it that users see.
func each(cmd *cobra.Command, fn func(*cobra.Command) error) error {
	if err := fn(cmd); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.Name() == "help" {
			continue
		}
		if err := each(c, fn); err != nil {
			return err
		}
	}
	return nil
}

// Page returns the man page of one command.
func Page(cmd *cobra.Command) string {
	var b strings.Builder
	path := cmd.CommandPath()
	title := strings.ToUpper(strings.ReplaceAll(path, " ", "-"))
	fmt.Fprintf(&b, ".TH %s 1 \"\" Cuib \"Cuib Manual\"\n", quote(title))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(strings.ReplaceAll(path, " ", "-")), escape(lowerFirst(cmd.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escape(cmd.UseLine()))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", paragraphs(description(cmd)))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nOther names: %s\n", escape(strings.Join(cmd.Aliases, ", ")))
	}
	section(&b, "COMMANDS", subcommands(cmd))
	section(&b, "OPTIONS", options(cmd.NonInheritedFlags()))
	section(&b, "OPTIONS OF ALL COMMANDS", options(cmd.InheritedFlags()))
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", escape(cmd.Example))
	}
	if cmd.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", escape(strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-")))
	}
	return b.String()
}

func section(b *strings.Builder, title, body string) {
	if body != "" {
		fmt.Fprintf(b, ".SH %s\n%s", title, body)
	}
}

func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// paragraphs sets indented lines as they are, and joins others.
func paragraphs(text string) string {
	var b strings.Builder
	for block := range strings.SplitSeq(text, "\n\n") {
		if strings.HasPrefix(block, " ") {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", escape(block))
		} else {
			fmt.Fprintf(&b, ".PP\n%s\n", escape(block))
		}
	}
	return b.String()
}

func subcommands(cmd *cobra.Command) string {
	var b strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(c.Name()), escape(c.Short))
		}
	}
	return b.String()
}

func options(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(option(f)), escape(f.Usage))
		}
	})
	return b.String()
}

// option returns how a flag is written.
func option(f *pflag.Flag) string {
	s := "--" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", " + s
	}
	if f.Value.Type() == "bool" {
		return s
	}
	s += " " + strings.ToUpper(strings.TrimSuffix(f.Value.Type(), "Array"))
	if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "0" {
		s += " (" + f.DefValue + ")"
	}
	return s
}

// escape makes plain text safe for roff.
func escape(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quote(s string) string { return `"` + s + `"` }

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// Reference returns all commands as one Markdown document.
func Reference(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The commands of %s\n\nMade from the help texts by `%s manpage --markdown`.\n", root.Name(), root.Name())
	_ = each(root, func(cmd *cobra.Command) error { // The function returns no error.
		chapter(&b, cmd)
		return nil
	})
	return b.String()
}

func chapter(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", cmd.CommandPath(), description(cmd))
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", cmd.UseLine())
	}
	first := true
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if first {
			b.WriteString("\n")
			first = false
		}
		fmt.Fprintf(b, "- `%s`: %s\n", option(f), f.Usage)
	})
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
}
