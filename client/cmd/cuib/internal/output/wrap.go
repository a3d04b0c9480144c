package output

import "strings"

// narrow is the width below which a column is not broken into lines.
const narrow = 24

// fitted returns the table with the lines of its widest columns broken at spaces,
// as far as it takes more room than there is.
func (f Format) fitted(t Table) Table {
	if f.Room <= 0 {
		return t
	}
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = append([]string(nil), row...)
	}
	t.Rows = rows
	done := make([]bool, len(t.Header))
	for range t.Header {
		widths := f.widths(t)
		over, widest := f.borders(len(widths))-f.Room, -1
		for i, w := range widths {
			over += w
			if !done[i] && w > narrow && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if over <= 0 || widest < 0 {
			break
		}
		done[widest] = true
		for _, row := range t.Rows {
			row[widest] = wrapped(row[widest], max(narrow, widths[widest]-over))
		}
	}
	return t
}

// borders is what a line takes beside its cells.
func (f Format) borders(columns int) int {
	if f.Name == "compact" {
		return 2 * columns
	}
	return 3*columns + 1
}

// wrapped breaks the lines of a text at spaces. A word that is too long stays.
func wrapped(text string, room int) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		used := 0
		for j, word := range strings.Split(line, " ") {
			switch {
			case j == 0:
			case used+1+width(word) > room:
				b.WriteByte('\n')
				used = 0
			default:
				b.WriteByte(' ')
				used++
			}
			b.WriteString(word)
			used += width(word)
		}
	}
	return b.String()
}
