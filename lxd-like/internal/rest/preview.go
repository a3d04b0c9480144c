package rest

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// isDryRun reports whether a request for a change only wants to know what that
// would change.
func isDryRun(r *http.Request) bool { return r.URL.Query().Get("dry-run") == "true" }

// A previewer says what a change would change.
type previewer[Put any] func(ctx context.Context, name string, put Put) ([]api.InstanceChange, error)

// previewed is the answer to a change by update or, if that is only to be
// looked at, what look says. with makes the answer of either.
func previewed[Put any](r *http.Request, update updater[Put], look previewer[Put], with func(updater[Put]) (response, error)) (response, error) {
	if !isDryRun(r) {
		return with(update)
	}
	var all []api.InstanceChange
	_, err := with(func(ctx context.Context, name string, put Put) (err error) {
		all, err = look(ctx, name, put)
		return err
	})
	return got(all, err)
}
