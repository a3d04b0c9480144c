package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A filter says which objects of a list a client wants:
//
//	name eq web and not (status eq Stopped or config.user.tier = "old one")
//
// "not" binds to the clause that follows it; "and" and "or" bind alike, from
// left to right. A clause compares a field, with dots between the names of
// inner fields, with eq or = or ne or !=. A value is a regular expression
// that all of the field has to match, in any case; one that is no regular
// expression is taken as it is. A clause of a field that an object does not
// have is false, with ne too.
type filter func(object map[string]any) bool

// selected returns those of all that the request's filter is for.
func selected[T any](r *http.Request, all []T) ([]T, error) {
	f, err := requestFilter(r)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(all))
	for _, v := range all {
		ok, err := matches(f, v)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// requestFilter is the filter of a request, or nil if it has none.
func requestFilter(r *http.Request) (filter, error) {
	text := r.URL.Query().Get("filter")
	if strings.TrimSpace(text) == "" {
		var all filter
		return all, nil
	}
	return parseFilter(text)
}

// matches reports whether a filter, or none, is for an object.
func matches(f filter, v any) (bool, error) {
	if f == nil {
		return true, nil
	}
	object, err := fields(v)
	return err == nil && f(object), err
}

// fields returns an object as it is on the wire.
func fields(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return object, nil
}

func parseFilter(text string) (filter, error) {
	words, err := splitFilter(text)
	if err != nil {
		return nil, err
	}
	p := &filterParser{words: words}
	f, err := p.expression()
	if err != nil {
		return nil, err
	}
	return f, nil
}

// A filterParser reads a filter from left to right.
type filterParser struct {
	words []string
	depth int // Groups that are open.
	close int // Parentheses that follow the last value.
}

func (p *filterParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// expression reads clauses up to the end or the end of the group.
func (p *filterParser) expression() (filter, error) {
	left, err := p.clause()
	if err != nil {
		return nil, err
	}
	for {
		if p.close > 0 {
			return left, p.endGroup()
		}
		op := p.next()
		switch {
		case op == "" && p.depth > 0:
			return nil, errs.Invalidf("filter: there is a ) missing")
		case op == "":
			return left, nil
		case strings.Trim(op, ")") == "": // It stands alone.
			p.close = len(op)
			continue
		}
		join, err := joiner(op)
		if err != nil {
			return nil, err
		}
		right, err := p.clause()
		if err != nil {
			return nil, err
		}
		left = join(left, right)
	}
}

func (p *filterParser) endGroup() error {
	if p.depth == 0 {
		return errs.Invalidf("filter: there is a ) too many")
	}
	p.close--
	p.depth--
	return nil
}

// joiner returns what makes one filter of two.
func joiner(op string) (func(left, right filter) filter, error) {
	switch strings.ToLower(op) {
	case "and":
		return func(left, right filter) filter {
			return func(o map[string]any) bool { return left(o) && right(o) }
		}, nil
	case "or":
		return func(left, right filter) filter {
			return func(o map[string]any) bool { return left(o) || right(o) }
		}, nil
	default:
		return nil, errs.Invalidf("filter: %q is between two clauses: want and, or", op)
	}
}

// clause reads a comparison, its negation, or a group.
func (p *filterParser) clause() (filter, error) {
	word := p.next()
	switch {
	case word == "":
		return nil, errs.Invalidf("filter: it ends where a clause is due")
	case strings.EqualFold(word, "not"):
		inner, err := p.clause()
		if err != nil {
			return nil, err
		}
		return func(o map[string]any) bool { return !inner(o) }, nil
	case strings.HasPrefix(word, "("):
		if rest := word[1:]; rest != "" {
			p.words = append([]string{rest}, p.words...)
		}
		p.depth++
		return p.expression()
	}
	return p.comparison(word)
}

func (p *filterParser) comparison(word string) (filter, error) {
	field, op, value := splitClause(word)
	if op == "" {
		op, value = p.next(), p.next()
	}
	value = p.closing(value)
	negate := false
	switch strings.ToLower(op) {
	case "eq", "=":
	case "ne", "!=":
		negate = true
	case "":
		return nil, errs.Invalidf("filter: nothing follows %q: want eq or ne", field)
	default:
		return nil, errs.Invalidf("filter: %q follows %q: want eq or ne", op, field)
	}
	match := matcher(unquote(value))
	return func(o map[string]any) bool {
		have, ok := lookup(o, field)
		return ok && match(have) != negate
	}, nil
}

// closing takes those parentheses from the end of a value that do not belong
// to it, as the last one of "(name eq a(b)?)" does not.
func (p *filterParser) closing(value string) string {
	if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'") {
		bare := strings.TrimRight(value, ")")
		p.close = len(value) - len(bare)
		return bare
	}
	for strings.HasSuffix(value, ")") && strings.Count(value, "(") < strings.Count(value, ")") {
		value = value[:len(value)-1]
		p.close++
	}
	return value
}

// splitClause splits a clause without spaces, as "name=web".
func splitClause(word string) (field, op, value string) {
	i := strings.IndexAny(word, "=!")
	switch {
	case i > 0 && strings.HasPrefix(word[i:], "!="):
		return word[:i], "!=", word[i+2:]
	case i > 0 && word[i] == '=':
		return word[:i], "=", word[i+1:]
	default:
		return word, "", ""
	}
}

// splitFilter splits at spaces outside of quotes.
func splitFilter(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	for _, c := range text {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
			word.WriteRune(c)
		case (c == '"' || c == '\'') && (word.Len() == 0 || strings.HasSuffix(word.String(), "=")):
			quote = c
			word.WriteRune(c)
		case c == ' ' || c == '\t':
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
		default:
			word.WriteRune(c)
		}
	}
	if quote != 0 {
		return nil, errs.Invalidf("filter: a quote %c is not closed", quote)
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// matcher returns what compares with a filter's value.
func matcher(value string) func(any) bool {
	re, err := regexp.Compile("(?i)^(?:" + value + ")$")
	return func(have any) bool {
		text := fmt.Sprint(have)
		return strings.EqualFold(text, value) || err == nil && re.MatchString(text)
	}
}

// lookup finds a field by its path. Keys, such as those of a config, may have
// dots themselves.
func lookup(object map[string]any, path string) (any, bool) {
	if v, ok := object[path]; ok {
		return v, v != nil
	}
	for i, c := range path {
		if c != '.' {
			continue
		}
		inner, ok := object[path[:i]].(map[string]any)
		if !ok {
			continue
		}
		if v, ok := lookup(inner, path[i+1:]); ok {
			return v, true
		}
	}
	return nil, false
}

// list is the answer of a request for a list: URLs, or the objects. url makes
// the path of an object with its key.
func list[T any](r *http.Request, all []T, err error, url func(T) string) (response, error) {
	if err != nil {
		return nil, err
	}
	match, err := requestFilter(r)
	if err != nil {
		return nil, err
	}
	urls, objects := make([]string, 0, len(all)), make([]T, 0, len(all))
	for _, v := range all {
		if !visible(r, v) {
			continue
		}
		at := url(v)
		v = named(v)
		ok, err := matches(match, v)
		if err != nil {
			return nil, err
		}
		if ok {
			urls, objects = append(urls, project.URL(at)), append(objects, v)
		}
	}
	if recursion(r) > 0 {
		return synced(translated{objects}), nil
	}
	return synced(urls), nil
}
