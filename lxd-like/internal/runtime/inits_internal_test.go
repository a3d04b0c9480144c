package runtime

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
)

func TestInitsThatNeedCgroup2(t *testing.T) {
	hybrid := Cgroups{V1: map[string]string{"memory": "/m"}, V2: "/u"}
	v1 := Cgroups{V1: hybrid.V1}
	for name, tt := range map[string]struct {
		kind initKind
		host Cgroups
		want bool
		says string
	}{
		"old, hybrid":      {initKind{Name: "systemd", Version: 252}, hybrid, false, ""},
		"old, v1":          {initKind{Name: "systemd", Version: 252}, v1, false, ""},
		"new, hybrid":      {initKind{Name: "systemd", Version: 256}, hybrid, true, ""},
		"new, v2":          {initKind{Name: "systemd", Version: 262}, Cgroups{V2: "/u"}, true, ""},
		"new, v1":          {initKind{Name: "systemd", Version: 257}, v1, false, "systemd 257, which needs cgroup2"},
		"unknown, hybrid":  {initKind{Name: "systemd"}, hybrid, false, ""},
		"sysvinit, hybrid": {initKind{Name: "sysvinit"}, hybrid, false, ""},
	} {
		got, err := tt.kind.onlyV2(tt.host)
		if got != tt.want || (err == nil) != (tt.says == "") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err != nil && (errs.KindOf(err) != errs.Unsupported || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "mount -t cgroup2 none")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
