package profiles_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestCheckVolumeKey(t *testing.T) {
	extra := map[string]string{"zfs.blocksize": "The size of records."}
	for _, tt := range []struct{ key, value, want string }{
		{"size", "1GiB", ""},
		{"size", "", ""},
		{"size", "big", `size: got "big", want a size such as "512MiB"`},
		{"initial.uid", "1000", ""},
		{"initial.gid", "-1", `initial.gid: got "-1", want a group id`},
		{"initial.mode", "1777", ""},
		{"initial.mode", "755", ""},
		{"initial.mode", "888", `initial.mode: got "888", want an octal mode`},
		{"security.shifted", "true", ""},
		{"security.unmapped", "maybe", `security.unmapped: got "maybe", want true or false`},
		{"snapshots.expiry", "3d", ""},
		{"snapshots.expiry", "soon", `snapshots.expiry: got "soon"`},
		{"snapshots.pattern", "x%d", ""},
		{"user.a", "anything", ""},
		{"user.", "anything", `unknown configuration key "user."`},
		{"volatile.x", "y", ""},
		{"zfs.blocksize", "16KiB", ""},
		{"zfs.blocksizes", "16KiB", `unknown configuration key "zfs.blocksizes", did you mean "zfs.blocksize"?`},
		{"limits.cpu", "1", `unknown configuration key "limits.cpu"`},
	} {
		err := profiles.CheckVolumeKey(tt.key, tt.value, extra)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s=%s: %v", tt.key, tt.value, err)
			}
			continue
		}
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s=%s: got %v, want %s", tt.key, tt.value, err, tt.want)
		}
	}
}
