package profiles_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
)

func TestBackupKeys(t *testing.T) {
	t.Parallel()
	for config, want := range map[[2]string]string{
		{"backups.repository", "nas"}:           "",
		{"backups.repository", "a/b"}:           `got "a/b"`,
		{"backups.schedule", "@daily"}:          "",
		{"backups.schedule", "0 3 * * *"}:       "",
		{"backups.schedule", "@startup"}:        `got "@startup"`,
		{"backups.schedule", "tomorrow"}:        `got "tomorrow"`,
		{"backups.keep.daily", "7"}:             "",
		{"backups.keep.daily", "0"}:             `got "0"`,
		{"backups.keep.fortnightly", "2"}:       "unknown configuration key",
		{"backups.keep.last", "many"}:           `got "many"`,
		{"backups.keep.yearly", "999999999999"}: `got "999999999999"`,
	} {
		for what, err := range map[string]error{
			"instance": profiles.ValidateOptions(map[string]string{config[0]: config[1]}),
			"volume":   profiles.ValidateVolume(map[string]string{config[0]: config[1]}, nil),
		} {
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) && what == "instance" {
				t.Errorf("%s: %v: %v, want %q", what, config, err, want)
			}
		}
	}
}

func TestBackupsOf(t *testing.T) {
	t.Parallel()
	got := profiles.BackupsOf(map[string]string{"backups.repository": "nas", "backups.schedule": "@daily", "backups.keep.last": "2", "user.x": "y"})
	if got.Repository != "nas" || got.Schedule != "@daily" || !maps.Equal(got.Keep, map[string]string{"last": "2"}) {
		t.Errorf("got %+v", got)
	}
}
