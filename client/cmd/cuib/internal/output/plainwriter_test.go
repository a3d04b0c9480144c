package output_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
)

func TestPlainWriterLeavesOrdersOut(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\r\n":                            "plain\ttext\n",
		"\x1b[32m  OK  \x1b[0m] up\n":                "  OK  ] up\n",
		"\x1b]0;title\x07a\x1b]52;c;x\x1b\\b":        "ab",
		"\x1bPdevice\x1b\\c\x1b(Bd\x1b7e":            "cde",
		"hidden \x1b]0;for ever\nnext line":          "hidden \nnext line",
		"\u009b31mred \u00e9 \u20ac \U0001f600 \x9b": "31mred \u00e9 \u20ac \U0001f600 ",
		"\x00\x08\x7f\x1b":                           "",
		"\xc2":                                       "",
		"\xc2A":                                      "A",
		"\u00a0":                                     "\u00a0",
	} {
		for _, size := range []int{1, 2, 3, len(in) + 1} { // Wherever it is cut.
			var got strings.Builder
			w := output.PlainWriter(&got)
			for rest := in; rest != ""; {
				n, err := w.Write([]byte(rest[:min(size, len(rest))]))
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if got.String() != want {
				t.Errorf("%q by %d: got %q, want %q", in, size, got.String(), want)
			}
		}
	}
}
