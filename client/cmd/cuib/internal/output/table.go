// Package output writes what commands answer: tables and their rows as CSV,
// JSON and YAML, and the progress of what takes time.
package output

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cuib/cuib/shared/errs"
)

// Formats are the names of the formats that [Format.Write] knows.
var Formats = []string{"table", "compact", "csv", "json", "yaml"}

// A Format is how a list is written.
type Format struct {
	Name   string // One of [Formats].
	Header bool
	Room   int // How many columns a table can take before its lines are broken; 0 for any number.
}

// ParseFormat parses the value of a flag --format: a name, which can be
// followed by ",header" or ",noheader".
func ParseFormat(s string) (Format, error) {
	name, option, has := strings.Cut(s, ",")
	if !slices.Contains(Formats, name) {
		return Format{}, errs.Invalidf("format %q is none of %s", name, strings.Join(Formats, ", "))
	}
	f := Format{Name: name, Header: name != "csv"}
	if has {
		if option != "header" && option != "noheader" {
			return Format{}, errs.Invalidf("format %q: option %q is neither header nor noheader", s, option)
		}
		f.Header = option == "header"
	}
	return f, nil
}

// A Table is a list.
type Table struct {
	Header []string
	Rows   [][]string
	Data   any // What JSON and YAML have: the structs of the API.
}

// Write writes t.
func (f Format) Write(w io.Writer, t Table) error {
	switch f.Name {
	case "json":
		return JSON(w, t.Data)
	case "yaml":
		return YAML(w, t.Data)
	case "csv":
		return f.csv(w, t)
	}
	t = f.fitted(t.plain())
	text := f.bordered(t)
	if f.Name == "compact" {
		text = f.compact(t)
	}
	_, err := io.WriteString(w, text)
	return err
}

// JSON writes v as one line of JSON.
func JSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

func (f Format) csv(w io.Writer, t Table) error {
	out := csv.NewWriter(w)
	if f.Header {
		if err := out.Write(t.Header); err != nil {
			return err
		}
	}
	return out.WriteAll(t.Rows)
}

// lines returns all lines of the table: a cell with newlines makes a row of
// several lines.
func (t Table) lines() [][][]string {
	var rows [][][]string
	for _, row := range t.Rows {
		var lines [][]string
		for i, cell := range row {
			for j, text := range strings.Split(cell, "\n") {
				for len(lines) <= j {
					lines = append(lines, make([]string, len(row)))
				}
				lines[j][i] = text
			}
		}
		rows = append(rows, lines)
	}
	return rows
}

func (f Format) widths(t Table) []int {
	out := make([]int, len(t.Header))
	if f.Header {
		for i, h := range t.Header {
			out[i] = width(h)
		}
	}
	for _, row := range t.Rows {
		for i, cell := range row {
			for line := range strings.SplitSeq(cell, "\n") {
				out[i] = max(out[i], width(line))
			}
		}
	}
	return out
}

// width is how many columns of a terminal a text takes, near enough.
func width(s string) int { return utf8.RuneCountInString(s) }

func (f Format) bordered(t Table) string {
	rows := t.lines()
	widths := f.widths(t)
	var b strings.Builder
	rule := func() {
		for _, w := range widths {
			b.WriteString("+" + strings.Repeat("-", w+2))
		}
		b.WriteString("+\n")
	}
	line := func(cells []string) {
		for i, cell := range cells {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-width(cell)))
		}
		b.WriteString("|\n")
	}
	rule()
	if f.Header {
		line(t.Header)
		rule()
	}
	for _, row := range rows {
		for _, cells := range row {
			line(cells)
		}
	}
	if len(rows) > 0 {
		rule()
	}
	return b.String()
}

func (f Format) compact(t Table) string {
	rows := t.lines()
	widths := f.widths(t)
	var b strings.Builder
	line := func(cells []string) {
		var l strings.Builder
		for i, cell := range cells {
			fmt.Fprintf(&l, "  %s%s", cell, strings.Repeat(" ", widths[i]-width(cell)))
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	if f.Header {
		line(t.Header)
	}
	for _, row := range rows {
		for _, cells := range row {
			line(cells)
		}
	}
	return b.String()
}
