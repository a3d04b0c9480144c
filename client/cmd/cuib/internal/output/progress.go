package output

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Progress shows one line that changes. Its zero value shows nothing.
type Progress struct {
	w     io.Writer // nil shows nothing.
	width func() int
	shown string
}

// NewProgress returns a line on w, which is a terminal with as many columns as
// width says.
func NewProgress(w io.Writer, width func() int) *Progress { return &Progress{w: w, width: width} }

// Show replaces the line.
func (p *Progress) Show(format string, args ...any) {
	if p == nil || p.w == nil {
		return
	}
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	if limit := p.width() - 1; limit > 0 && utf8.RuneCountInString(text) > limit {
		text = string([]rune(text)[:limit])
	}
	if text == p.shown {
		return
	}
	p.shown = text
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// Clear takes the line away.
func (p *Progress) Clear() {
	if p == nil || p.w == nil || p.shown == "" {
		return
	}
	fmt.Fprint(p.w, "\r\x1b[K")
	p.shown = ""
}
