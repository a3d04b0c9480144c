package profiles_test

import (
	"maps"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/profiles"
)

func TestCloudInit(t *testing.T) {
	const key = "root:ssh-ed25519 AAAA me@here"
	tests := map[string]struct {
		opts map[string]string
		want map[string]string // The documents that differ, as compact YAML.
	}{
		"no keys": {map[string]string{"cloud-init.user-data": "#!/bin/sh"}, nil},
		"nothing else": {map[string]string{"cloud-init.ssh-keys.a": key}, map[string]string{
			"cloud-init.vendor-data": "users: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
		}},
		"two users, an account": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.ssh-keys.b": "root:ssh-rsa BBBB", "cloud-init.ssh-keys.c": "me:gh:octocat"}, map[string]string{
			"cloud-init.vendor-data": "users: [default, {name: me, ssh_import_id: ['gh:octocat']}, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here, ssh-rsa BBBB]}]",
		}},
		"beside vendor data": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.vendor-data": "#cloud-config\npackages: [x]\n"}, map[string]string{
			"cloud-init.vendor-data": "packages: [x]\nusers: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
		}},
		"older name": {map[string]string{"cloud-init.ssh-keys.a": key, "user.vendor-data": "#cloud-config"}, map[string]string{
			"user.vendor-data": "users: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
		}},
		"user data without users": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.user-data": "#cloud-config\npackages: [x]\n"}, map[string]string{
			"cloud-init.vendor-data": "users: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
		}},
		"user data with that user": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.user-data": "#cloud-config\nusers: [{name: root, shell: /bin/sh, ssh_authorized_keys: [old]}]\n"}, map[string]string{
			"cloud-init.vendor-data": "users: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
			"cloud-init.user-data":   "users: [{name: root, shell: /bin/sh, ssh_authorized_keys: [old, ssh-ed25519 AAAA me@here]}]",
		}},
		"vendor data is a script": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.vendor-data": "#!/bin/sh\n"}, map[string]string{
			"cloud-init.user-data": "users: [default, {name: root, ssh_authorized_keys: [ssh-ed25519 AAAA me@here]}]",
		}},
		"all are scripts":  {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.vendor-data": "#!/bin/sh\n", "cloud-init.user-data": "#!/bin/sh\n"}, nil},
		"users is no list": {map[string]string{"cloud-init.ssh-keys.a": key, "cloud-init.vendor-data": "#cloud-config\nusers: x\n", "cloud-init.user-data": "#!/bin/sh\n"}, nil},
		"broken":           {map[string]string{"cloud-init.ssh-keys.a": key, "user.vendor-data": "#cloud-config\n[", "cloud-init.user-data": "#!/bin/sh\n"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(tt.opts)
			got := profiles.CloudInit(profiles.Config{Options: tt.opts})
			if !maps.Equal(before, tt.opts) {
				t.Error("the options themselves have changed")
			}
			for k, v := range got {
				if v == before[k] {
					if tt.want[k] != "" {
						t.Errorf("%s is as before", k)
					}
					continue
				}
				rest, ok := strings.CutPrefix(v, "#cloud-config\n")
				if !ok || compact(t, rest) != compact(t, tt.want[k]) {
					t.Errorf("%s: got %q, want %s", k, v, tt.want[k])
				}
			}
			if len(tt.want) > 0 && maps.Equal(got, before) {
				t.Error("nothing has changed")
			}
		})
	}
	for value, ok := range map[string]bool{
		key: true, "me:gh:x": true, "key": false, ":key": false, "root:": false, "ro ot:key": false, "root:a\nb": false, "root: ": false,
	} {
		err := profiles.ValidateOptions(map[string]string{"cloud-init.ssh-keys.a": value})
		if (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
