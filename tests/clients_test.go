package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
)

// goodValues are values of which each key that can be set takes one.
var goodValues = []string{
	"true", "3", "50%", "64MiB", "soft", "stop", "daily", "@daily", "3d", "snap-%d", "yes, 2-2", "pool:default", "both 1000 1000",
	"lxc.cap.drop = sys_time", "deny /x r,", "AAE=", "boot", "auto", "10:66:6a:01:02:03", "1:2", "a: b", "root:ssh-ed25519 AAAA",
	"ptrace", "2", "0", "ext4", "ext4=fuse2fs", "default", "20ms", "2\ndenylist",
}

// goodOn are values that this host can have, of keys for which that counts.
var goodOn = map[string]string{
	"boot.depends_on": "c2", "limits.cpu.nodes": "0", "limits.memory.swap": "false", "security.idmap.base": "500000000",
}

// goodValue returns a value for a key; empty for none.
func goodValue(k profiles.Key) string {
	if v := goodOn[k.Name]; v != "" {
		return v
	}
	for _, v := range goodValues {
		// The default is what an unset key has, too.
		if k.Check(v) == nil && v != k.Default && !strings.HasPrefix(k.Allowed, v+" or") {
			return v
		}
	}
	if k.Default != "" && k.Check(k.Default) == nil {
		return k.Default
	}
	return ""
}

// TestClientsSetEachKey has the peers' clients set, show and unset each key
// that a user can set, as the table has them.
func TestClientsSetEachKey(t *testing.T) {
	h := startTiny(t)
	if _, err := h.user("sh", "-ec", "lxc init tiny c2; lxc init tiny c3"); err != nil {
		t.Fatal(err)
	}
	// The key's value is the name of one.
	repository := []string{filepath.Join(binDir, "cuib"), "backup", "repository", "add", "true", "location=" + t.TempDir()}
	if _, err := h.user(repository...); err != nil {
		t.Fatal(err)
	}
	const script = `
		for order in "lxc incus" "incus lxc"; do
			set -- $order
			$1 config set c3 "$KEY" "$VALUE"
			test "$($2 config get c3 "$KEY")" = "$VALUE"
			$1 config show c3 | grep -qF "  $KEY: "
			$2 config unset c3 "$KEY"
			test -z "$($1 config get c3 "$KEY")"
		done`
	for _, k := range profiles.Keys() {
		if k.OwnOnly && k.Allowed == "" && strings.HasPrefix(k.Name, "volatile.") {
			continue // Nobody but the daemon sets it.
		}
		value := goodValue(k)
		if value == "" {
			t.Errorf("no good value of %s is among those that the test has: it is %s", k.Name, k.Allowed)
			continue
		}
		name := exampleOf(t, k.Name)
		_, err := h.user("env", "KEY="+name, "VALUE="+value, "sh", "-ec", script)
		switch {
		case err != nil && strings.Contains(err.Error(), "this host has"):
			t.Logf("%s=%s is refused here: %v", name, value, err)
		case err != nil:
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}
