package host_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/host"
)

func TestLoadModules(t *testing.T) {
	there, err := os.ReadDir("/sys/module")
	if err != nil || len(there) == 0 {
		t.Skip("this kernel shows no modules")
	}
	name := there[0].Name()
	for _, n := range []string{name, strings.ReplaceAll(name, "_", "-")} {
		if err := host.LoadModules(t.Context(), []string{n}); err != nil {
			t.Errorf("%s, which is loaded: %v", n, err)
		}
	}
	err = host.LoadModules(t.Context(), []string{name, "cuib-no-such-module"})
	if err == nil || !strings.Contains(err.Error(), `kernel module "cuib-no-such-module"`) {
		t.Errorf("one that is not there: %v", err)
	}
}
