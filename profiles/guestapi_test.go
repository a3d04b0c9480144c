package profiles_test

import (
	"testing"

	"github.com/cuib/cuib/profiles"
)

func TestParseGuestAPI(t *testing.T) {
	tests := map[string]struct {
		opts map[string]string
		want profiles.GuestAPI
	}{
		"nothing said":     {nil, profiles.GuestAPI{}},
		"on":               {map[string]string{"security.guestapi": "true"}, profiles.GuestAPI{}},
		"off":              {map[string]string{"security.guestapi": "false"}, profiles.GuestAPI{Off: true}},
		"off as LXD says":  {map[string]string{"security.devlxd": "no"}, profiles.GuestAPI{Off: true}},
		"names disagree":   {map[string]string{"security.devlxd": "1", "security.guestapi": "0"}, profiles.GuestAPI{Off: true}},
		"images":           {map[string]string{"security.guestapi.images": "true"}, profiles.GuestAPI{Images: true}},
		"images as LXD":    {map[string]string{"security.devlxd.images": "yes"}, profiles.GuestAPI{Images: true}},
		"images disagree":  {map[string]string{"security.devlxd.images": "yes", "security.guestapi.images": "no"}, profiles.GuestAPI{}},
		"images, both yes": {map[string]string{"security.devlxd.images": "yes", "security.guestapi.images": "on"}, profiles.GuestAPI{Images: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := profiles.ParseGuestAPI(tt.opts); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestNewToCloudInit(t *testing.T) {
	nic := func(name string) map[string]profiles.Device {
		return map[string]profiles.Device{"eth0": {"type": "nic", "name": name}}
	}
	options := func(k, v string) profiles.Config { return profiles.Config{Options: map[string]string{k: v}} }
	tests := map[string]struct {
		before, after profiles.Config
		want          bool
	}{
		"nothing":        {options("user.a", "1"), options("user.a", "1"), false},
		"another key":    {options("user.a", "1"), options("user.a", "2"), false},
		"user data":      {options("cloud-init.user-data", "1"), options("cloud-init.user-data", "2"), true},
		"older name":     {profiles.Config{}, options("user.vendor-data", "2"), true},
		"gone":           {options("user.network-config", "2"), profiles.Config{}, true},
		"another NIC":    {profiles.Config{Devices: nic("eth0")}, profiles.Config{Devices: nic("net0")}, true},
		"the same NIC":   {profiles.Config{Devices: nic("eth0")}, profiles.Config{Devices: nic("eth0")}, false},
		"no NIC":         {profiles.Config{Devices: nic("eth0")}, profiles.Config{}, true},
		"NIC by no name": {profiles.Config{Devices: nic("")}, profiles.Config{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := profiles.NewToCloudInit(tt.before, tt.after); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCloudInitData(t *testing.T) {
	tests := map[string]struct {
		key, value string
		ok         bool
	}{
		"configuration":        {"cloud-init.user-data", "#cloud-config\npackages: [a]\n", true},
		"broken configuration": {"cloud-init.user-data", "#cloud-config\npackages: [a\n", false},
		"script":               {"cloud-init.user-data", "#!/bin/sh\necho [\n", true},
		"template":             {"cloud-init.vendor-data", "## template: jinja\n#cloud-config\n{% if x %}[{% endif %}", true},
		"broken vendor data":   {"cloud-init.vendor-data", "#cloud-config\n\tx: 1", false},
		"network":              {"cloud-init.network-config", "version: 2\nethernets: {}\n", true},
		"broken network":       {"cloud-init.network-config", "version: [", false},
		"older name":           {"user.user-data", "#cloud-config\n[", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := profiles.ValidateOptions(map[string]string{tt.key: tt.value})
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
