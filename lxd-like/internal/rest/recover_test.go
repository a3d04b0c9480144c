package rest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/recovery"
	"github.com/cuib/cuib/shared/errs"
)

// fakeRecovery finds nothing.
type fakeRecovery struct{}

func (fakeRecovery) Validate(_ context.Context, req recovery.Request) (recovery.Result, error) {
	if len(req.Pools) > 0 {
		return recovery.Result{}, errs.Invalidf("nothing is at %s", req.Pools[0].Name)
	}
	return recovery.Result{}, nil
}

func (fakeRecovery) Import(context.Context, recovery.Request) error { return nil }

func TestRecover(t *testing.T) {
	s := serve(t)
	if a := s.do("POST", "/internal/recover/validate", `{"pools":[{"name":"lost"}]}`); a.status != 400 || !strings.Contains(a.Error, "lost") {
		t.Errorf("validate: %+v", a)
	}
	if a := s.do("POST", "/internal/recover/import", `{"pools":[]}`); a.status != 200 {
		t.Errorf("import: %+v", a)
	}
	if a := s.do("POST", "/internal/recover/import", `{"pools":1}`); a.status != 400 {
		t.Errorf("import of nonsense: %+v", a)
	}
}
