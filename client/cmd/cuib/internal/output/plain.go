package output

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain returns a text without what a terminal takes for orders. Guests choose
// some of what is shown, such as the names of their interfaces.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) && r != '\n':
			return utf8.RuneError
		}
		return r
	}, s)
}

// plain is [Plain] for all cells.
func (t Table) plain() Table {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		for _, cell := range row {
			rows[i] = append(rows[i], Plain(cell))
		}
	}
	t.Rows = rows
	return t
}
