package rest

import (
	"context"
	"net/http"
)

// A reader reads the object that a request is about, and its writable part.
type reader func(r *http.Request) (whole, writable any, err error)

// An updater replaces the writable part of the object with the given name.
type updater[Put any] func(ctx context.Context, name string, put Put) error

// read is the answer to a GET of an object.
func read(r *http.Request, from reader) (response, error) {
	whole, writable, err := from(r)
	if err != nil {
		return nil, err
	}
	return tagged(whole, writable)
}

// replace is the answer to a PUT of an object that is changed at once.
func replace[Put any](r *http.Request, from reader, update updater[Put]) (response, error) {
	body, err := decode[Put](r)
	if err != nil {
		return nil, err
	}
	err = checkMatch(r, func() (any, error) {
		_, writable, err := from(r)
		return writable, err
	})
	if err != nil {
		return nil, err
	}
	return done(update(r.Context(), objectName(r), body))
}

// change is the answer to a PATCH of an object that is changed at once.
func change[Put any](r *http.Request, from reader, update updater[Put]) (response, error) {
	_, current, err := from(r)
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, func() (any, error) { return current, nil }); err != nil {
		return nil, err
	}
	put, ok := current.(Put)
	if !ok {
		panic("rest: the reader and the updater are of different objects")
	}
	body, err := merge(put, r)
	if err != nil {
		return nil, err
	}
	return done(update(r.Context(), objectName(r), body))
}

// objectName is the name, or the fingerprint, in a request's path.
func objectName(r *http.Request) string {
	if fp := r.PathValue("fingerprint"); fp != "" {
		return fp
	}
	return r.PathValue("name")
}
