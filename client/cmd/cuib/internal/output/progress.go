package output

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
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

// percent finds how much of something is done.
var percent = regexp.MustCompile(`\b(\d{1,3})%`)

// barWidth is that of a bar without its brackets.
const barWidth = 24

// bar returns a bar for a text that says how much is done, or "".
func bar(text string) string {
	m := percent.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > 100 {
		return ""
	}
	done := n * barWidth / 100
	return " [" + strings.Repeat("#", done) + strings.Repeat("-", barWidth-done) + "]"
}

// Show replaces the line. A text that says how much is done, as 10%, gets a
// bar if there is room.
func (p *Progress) Show(format string, args ...any) {
	if p == nil || p.w == nil {
		return
	}
	text := strings.ReplaceAll(Plain(fmt.Sprintf(format, args...)), "\n", " ")
	limit := p.width() - 1
	if b := bar(text); utf8.RuneCountInString(text)+len(b) <= limit {
		text += b
	}
	if limit > 0 && utf8.RuneCountInString(text) > limit {
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
