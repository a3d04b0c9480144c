package profiles

import (
	"maps"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/errs"
)

const networkConfig = "cloud-init.network-config"

func cloudInitKeys() []Key {
	const (
		wantYAML = "YAML"
		wantData = `text; if its first line is "#cloud-config", YAML`
		reads    = " that the guest's cloud-init reads; a change makes it a new instance to cloud-init, at its next start"
	)
	return []Key{
		{Name: networkConfig, Type: Blob, Allowed: wantYAML, Live: true, Doc: "The configuration of the network" + reads + ".", check: checkYAML},
		{Name: sshKeys + "*", Type: String, Allowed: `USER:KEY, where KEY is a public key, or gh:NAME or lp:NAME for those of an account`, Live: true, Doc: "An SSH key of a user of the guest, whom cloud-init makes where the guest has no such user; a change makes the guest a new instance to it, at its next start.", check: is(isSSHKey)},
		{Name: "cloud-init.user-data", Type: Blob, Allowed: wantData, Live: true, Doc: "The user data" + reads + ".", check: checkCloudData},
		{Name: "cloud-init.vendor-data", Type: Blob, Allowed: wantData, Live: true, Doc: "The vendor data" + reads + ".", check: checkCloudData},
	}
}

// cloudInitInputs are the keys that cloud-init sets a guest up by; those below
// user. are the older names.
var cloudInitInputs = map[string]bool{
	networkConfig: true, "cloud-init.user-data": true, "cloud-init.vendor-data": true,
	"user.network-config": true, "user.user-data": true, "user.vendor-data": true,
}

// NewToCloudInit reports whether a change makes an instance a new one to the
// cloud-init in it: what that reads differs, or the names of NICs inside.
func NewToCloudInit(before, after Config) bool {
	for key := range cloudInitInputs {
		if before.Options[key] != after.Options[key] {
			return true
		}
	}
	if !maps.Equal(sshKeysOf(before.Options), sshKeysOf(after.Options)) {
		return true
	}
	was, is := nicNames(before.Devices), nicNames(after.Devices)
	if len(was) != len(is) {
		return true
	}
	for name := range was {
		if !is[name] {
			return true
		}
	}
	return false
}

func sshKeysOf(opts map[string]string) map[string]string {
	keys := map[string]string{}
	for name, v := range opts {
		if strings.HasPrefix(name, sshKeys) {
			keys[name] = v
		}
	}
	return keys
}

func nicNames(devices map[string]Device) map[string]bool {
	names := map[string]bool{}
	for _, dev := range devices {
		if dev["type"] == "nic" && dev["name"] != "" {
			names[dev["name"]] = true
		}
	}
	return names
}

func checkYAML(v string) error {
	var document any
	if err := yaml.Unmarshal([]byte(v), &document); err != nil {
		return errs.Invalidf("got a text that is no YAML (%w), want YAML", err)
	}
	return nil
}

// checkCloudData checks user data and vendor data. They can be scripts, lists
// of addresses and more; only what says that it is a configuration is one.
func checkCloudData(v string) error {
	first, rest, _ := strings.Cut(v, "\n")
	if strings.TrimSpace(first) != cloudConfig {
		return nil
	}
	return checkYAML(rest)
}
