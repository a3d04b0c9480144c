package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/cuib/cuib/shared/errs"
)

// maxBody bounds the body of requests that are no uploads.
const maxBody = 1 << 20

// limitBody returns the body that a handler may read.
func limitBody(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	if isUpload(r) {
		return r.Body
	}
	return http.MaxBytesReader(w, r.Body, maxBody)
}

// isUpload reports whether the body of a request is data.
func isUpload(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	volumes := strings.HasSuffix(r.URL.Path, "/volumes") || strings.HasSuffix(r.URL.Path, "/volumes/custom")
	return strings.HasSuffix(r.URL.Path, "/files") || (r.URL.Path == "/1.0/images" || r.URL.Path == "/1.0/instances" || volumes) && !isJSON(r)
}

func isJSON(r *http.Request) bool {
	typ := r.Header.Get("Content-Type")
	return typ == "" || strings.HasPrefix(typ, "application/json")
}

// checkQuery checks the parameters that all requests have.
func checkQuery(r *http.Request) error {
	q := r.URL.Query()
	if t := q.Get("target"); t != "" && t != "none" {
		return errs.Invalidf("target is %q: this server is in no cluster", t)
	}
	switch v := q.Get("recursion"); v {
	case "", "0", "1", "2":
		return nil
	default:
		return errs.Invalidf("recursion is %q: want 0, 1 or 2", v)
	}
}

// recursion returns how much of the listed objects a client wants.
func recursion(r *http.Request) int {
	n, _ := strconv.Atoi(r.URL.Query().Get("recursion")) // It was checked.
	return n
}

// decode reads a request's JSON body. Fields that it does not know are
// ignored, those of a wrong type refused.
func decode[T any](r *http.Request) (T, error) {
	var v T
	data, err := readBody(r)
	if err != nil {
		return v, err
	}
	if err := unmarshal(data, &v); err != nil {
		return v, err
	}
	return v, keys(r, &v)
}

func readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errs.Invalidf("request body is empty: want a JSON object")
	}
	return data, nil
}

// bodyError says why a request's body could not be read.
func bodyError(err error) error {
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errs.Invalidf("request body is larger than %d bytes", tooBig.Limit)
	}
	return errs.Newf(errs.Canceled, "read the request body: %w", err)
}

func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return errs.Invalidf("request body is a JSON %s: want an object", e.Value)
		}
		return errs.Invalidf("field %q in the request body is a JSON %s: want %s", fieldName(e.Field), e.Value, jsonType(e))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return errs.Invalidf("request body is not JSON, at byte %d: %w", e.Offset, err)
	}
	return errs.Invalidf("request body: %w", err)
}

// fieldName takes the names of embedded structs, which are none of the wire's,
// out of a field's path. They alone begin with a capital letter.
func fieldName(path string) string {
	parts := slices.DeleteFunc(strings.Split(path, "."), func(p string) bool { return p != "" && unicode.IsUpper(rune(p[0])) })
	return strings.Join(parts, ".")
}

// jsonType names the type that a field should have had.
func jsonType(e *json.UnmarshalTypeError) string {
	switch name := e.Type.Kind().String(); {
	case name == "struct" || name == "map":
		return "an object"
	case name == "slice":
		return "an array"
	case name == "bool":
		return "a boolean"
	case strings.Contains(name, "int"):
		return "a whole number"
	default:
		return "a " + name
	}
}

// mergedFields are the fields whose keys a PATCH changes one by one.
var mergedFields = []string{"config", "devices", "properties", "templates"}

// merge changes what a PATCH names of current, and keeps the rest.
func merge[T any](current T, r *http.Request) (T, error) {
	data, err := readBody(r)
	if err != nil {
		return current, err
	}
	return merged(current, r, data)
}

// merged is [merge] with the body of the request.
func merged[T any](current T, r *http.Request, data []byte) (T, error) {
	var out, check T
	if err := unmarshal(data, &check); err != nil {
		return out, err
	}
	old, err := json.Marshal(named(current))
	if err != nil {
		return out, err
	}
	fields, changes := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(old, &fields), json.Unmarshal(data, &changes)); err != nil {
		return out, err
	}
	maps.Copy(fields, changes)
	for _, name := range mergedFields {
		if changes[name] == nil {
			continue
		}
		if fields[name], err = mergeField(old, name, changes[name]); err != nil {
			return out, err
		}
	}
	whole, err := json.Marshal(fields)
	if err != nil {
		return out, err
	}
	if err := unmarshal(whole, &out); err != nil {
		return out, err
	}
	return out, keys(r, &out)
}

// replacing is what a PUT wants of what there is when the change is made.
func replacing[T any](r *http.Request) (func(now T) (T, error), error) {
	body, err := decode[T](r)
	return func(now T) (T, error) {
		return body, checkMatch(r, func() (any, error) { return now, nil })
	}, err
}

// changing is what a PATCH wants of what there is when the change is made.
func changing[T any](r *http.Request) (func(now T) (T, error), error) {
	data, err := readBody(r)
	r = r.WithContext(context.WithoutCancel(r.Context())) // It can have been answered by then.
	return func(now T) (T, error) {
		if err := checkMatch(r, func() (any, error) { return now, nil }); err != nil {
			return now, err
		}
		return merged(now, r, data)
	}, err
}

// mergeField adds the keys of change to those that the object old has in a
// field. A null or an empty string takes a key away.
func mergeField(old []byte, name string, change json.RawMessage) (json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(old, &object); err != nil {
		return nil, err
	}
	keys, changes := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if field := object[name]; field != nil {
		if err := json.Unmarshal(field, &keys); err != nil {
			return nil, err
		}
	}
	if json.Unmarshal(change, &changes) != nil {
		return change, nil //nolint:nilerr // What is changed has no such field, and ignores it.
	}
	if keys == nil {
		keys = map[string]json.RawMessage{}
	}
	for k, v := range changes {
		if s := string(v); s == "null" || s == `""` {
			delete(keys, k)
		} else {
			keys[k] = v
		}
	}
	return json.Marshal(keys)
}

// checkMatch refuses a request whose If-Match does not fit what it is about
// to change; read returns the writable part of that.
func checkMatch(r *http.Request, read func() (any, error)) error {
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" {
		return nil
	}
	current, err := read()
	if err != nil {
		return err
	}
	have, err := etag(current)
	if err != nil {
		return err
	}
	for tag := range strings.SplitSeq(want, ",") {
		if strings.Trim(strings.TrimSpace(tag), `"`) == strings.Trim(have, `"`) {
			return nil
		}
	}
	return errs.Newf(errs.Stale, "ETag does not match: %s was changed since it was read", r.URL.Path)
}
