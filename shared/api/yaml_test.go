package api_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
)

// TestYAMLOfAnyText has values come back that YAML has no plain form for.
func TestYAMLOfAnyText(t *testing.T) {
	for _, value := range []string{"a\x7fb", "a\u0085b", "a\u009bb", "a\u2028b", "\x1b[31m", "\ufeff", "a\ufeffb", "\ufffe", "\uffff", "a\tb\r\nc", "\U0001f600", "1e3", "012", "yes", "~", "<&>", `"\`} {
		in := api.Document{Volume: &api.StorageVolume{Name: "v", CreatedAt: time.Unix(1, 5).UTC()}}
		in.Volume.Config = api.ConfigMap{"user.x": value}
		in.Snapshots = []api.InstanceSnapshot{{Size: 1 << 60}}
		text, err := in.YAML()
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		out, err := api.ParseDocument(text)
		if err != nil || !reflect.DeepEqual(in.Volume.Config, out.Volume.Config) || !out.Volume.CreatedAt.Equal(in.Volume.CreatedAt) || out.Snapshots[0].Size != 1<<60 {
			t.Errorf("%q became %+v, %v in\n%s", value, out.Volume, err, text)
		}
	}
}
