package output_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
)

// What a guest names itself is no order to the terminal that shows it.
func TestTablesArePlain(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"table", "compact"} {
		var out strings.Builder
		table := output.Table{Header: []string{"NAME"}, Rows: [][]string{{"a\x1b[31m\u009b\r\x07é\nb\tc"}}}
		if err := (output.Format{Name: format}).Write(&out, table); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); strings.ContainsAny(got, "\x1b\u009b\r\x07\t") || !strings.Contains(got, "a\ufffd[31m\ufffd\ufffd\ufffdé") || !strings.Contains(got, "b c") {
			t.Errorf("%s: got %q", format, got)
		}
	}
}
