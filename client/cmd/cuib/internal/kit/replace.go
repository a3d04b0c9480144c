package kit

import (
	"context"
	"errors"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/uuid"
)

// A Replacement makes something of a name that another can have.
type Replacement struct {
	Name   string
	Rename func(ctx context.Context, name, to string) error
	Make   func(ctx context.Context) error
	Delete func(ctx context.Context, name string) error
}

// Do keeps what has the name aside until the new one is there. If that fails, it
// gets its name back.
func (r Replacement) Do(ctx context.Context) error {
	aside := r.Name + "-" + uuid.New()[:8]
	err := r.Rename(ctx, r.Name, aside)
	if errs.Is(err, errs.NotFound) {
		return r.Make(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.Make(ctx); err != nil {
		return errors.Join(err, r.Rename(context.WithoutCancel(ctx), aside, r.Name))
	}
	return r.Delete(ctx, aside)
}
