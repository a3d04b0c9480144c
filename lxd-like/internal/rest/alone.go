package rest

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// alone waits until a request that changes a part of an object is the only one
// for that object: nobody else changes it between what is read of it and what
// is written. Who sends slowly keeps nobody waiting.
func (s *Server) alone(r *http.Request) (done func(), err error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return s.objects.LockContext(r.Context(), objectKey(r))
}

// wildcard is a name in the pattern of a route.
var wildcard = regexp.MustCompile(`\{(\w+)`)

// objectKey tells objects apart, by the keys that they have inside the daemon.
func objectKey(r *http.Request) string {
	parts := []string{r.Pattern}
	for _, m := range wildcard.FindAllStringSubmatch(r.Pattern, -1) {
		parts = append(parts, r.PathValue(m[1]))
	}
	return strings.Join(parts, "\x00")
}
