package cli_test

import (
	"slices"
	"strings"
	"testing"
)

// TestExamples runs the examples of all commands where there is no daemon: they
// end with any error but that of wrong usage.
func TestExamples(t *testing.T) {
	seen := 0
	for path, text := range helpTexts(t) {
		_, examples, _ := strings.Cut(text, "\nExamples:\n")
		examples, _, _ = strings.Cut(examples, "\n\n")
		for line := range strings.Lines(examples) {
			for part := range strings.SplitSeq(strings.TrimSpace(line), " | ") {
				args := words(part)
				if args[0] != "cuib" || slices.Contains([]string{"manpage", "admin waitready"}, path) { // They would do it, or wait.
					continue
				}
				seen++
				if _, stderr, status := run(t, args[1:]...); status == 2 {
					t.Errorf("%s: %s", part, stderr)
				}
			}
		}
	}
	if seen < 300 {
		t.Errorf("only %d examples seen", seen)
	}
}

// words splits a command as a shell does, without redirections.
func words(line string) []string {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		quote, rest := "", line
		var word strings.Builder
		for rest != "" && (quote != "" || rest[0] != ' ') {
			switch c := rest[:1]; {
			case c == quote:
				quote = ""
			case quote == "" && (c == "'" || c == `"`):
				quote = c
			default:
				word.WriteString(c)
			}
			rest = rest[1:]
		}
		line = rest
		switch w := word.String(); {
		case strings.HasPrefix(w, "<") || strings.HasPrefix(w, ">"):
			if len(w) == 1 {
				_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
			}
		default:
			out = append(out, w)
		}
	}
	return out
}

// TestHelpFitsTerminals has no line of what is explained be cut or wrapped.
func TestHelpFitsTerminals(t *testing.T) {
	for path, text := range helpTexts(t) {
		long, _, _ := strings.Cut(text, "\nUsage:\n")
		for line := range strings.Lines(long) {
			if n := len(strings.TrimRight(line, "\n")); n > 84 {
				t.Errorf("%s --help: %d letters in %q", path, n, line)
			}
		}
	}
}

// TestColumnsAreExplained has each command with columns say which there are.
func TestColumnsAreExplained(t *testing.T) {
	seen := 0
	for path, text := range helpTexts(t) {
		_, flag, has := strings.Cut(text, "--columns string   ")
		if !has {
			continue
		}
		seen++
		_, usual, _ := strings.Cut(flag, `(default "`)
		usual, _, _ = strings.Cut(usual, `"`)
		for _, key := range usual {
			if !strings.Contains(text, "\n  "+string(key)+"  ") && !strings.Contains(flag, " "+string(key)+" for ") {
				t.Errorf("%s --help does not explain the column %c", path, key)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d lists seen", seen)
	}
}
