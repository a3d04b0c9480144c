package project

import (
	"context"
	"net/url"
	"regexp"
	"strings"
)

// URL makes of the path of an object inside the daemon, which has keys, the
// URL that clients know, which has names and, if it is not the default one,
// "?project=".
func URL(path string) string {
	public, project := Path(path)
	if project == Default {
		return public
	}
	return public + "?project=" + url.QueryEscape(project)
}

// Path is [URL] with the project beside it.
func Path(path string) (public, project string) {
	if !strings.ContainsAny(path, ofInstances+ofOthers) {
		return path, Default
	}
	segments := strings.Split(path, "/")
	project = Default
	for i, segment := range segments {
		key, err := url.PathUnescape(segment)
		if err != nil {
			continue
		}
		in, name := Default, key
		switch {
		case i > 0 && (segments[i-1] == "instances" || segments[i-1] == "container"):
			in, name = SplitInstance(key)
		case strings.Contains(key, ofOthers):
			in, name = Split(key)
		}
		if in != Default {
			segments[i], project = url.PathEscape(name), in
		}
	}
	return strings.Join(segments, "/"), project
}

// words are what a text is of: what is in double quotes, or between the signs that
// no key has.
var words = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"'(),;=\[\]{}]+`)

// Text takes the project out of the keys in a text for who works in it, such
// as an error. A key is a word of its own, or follows its pool or kind. What a
// file is called, on the host or in a guest, stays, and so do addresses: those are
// found by no other name.
func Text(project, text string) string {
	if project == "" || project == Default || !strings.Contains(text, project) {
		return text
	}
	key := regexp.MustCompile(`(?:^"?|[/@])` + regexp.QuoteMeta(project) +
		`(?:` + ofInstances + `[A-Za-z][A-Za-z0-9-]{0,62}(?:$|["/@:]|\.$)|` + ofOthers + `[^/"` + ofOthers + `]+(?:$|["/]))`)
	return words.ReplaceAllStringFunc(text, func(word string) string {
		bare := strings.Trim(word, `"`)
		if strings.HasPrefix(bare, "/") && !strings.HasPrefix(bare, "/1.0/") || strings.Contains(bare, "://") {
			return word
		}
		return key.ReplaceAllStringFunc(word, func(found string) string {
			at := strings.Index(found, project)
			return found[:at] + found[at+len(project)+1:]
		})
	})
}

type contextKey struct{}

// With is a context in which [From] is a project.
func With(ctx context.Context, project string) context.Context {
	return context.WithValue(ctx, contextKey{}, project)
}

// From is the project of the request that a context is of: the default one if
// it is of none.
func From(ctx context.Context) string {
	if p, ok := ctx.Value(contextKey{}).(string); ok && p != "" {
		return p
	}
	return Default
}
