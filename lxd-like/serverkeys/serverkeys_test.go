package serverkeys_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, value, wrong string }{
		{"backups.compression_algorithm", "zstd -19", ""},
		{"backups.compression_algorithm", "zip", `backups.compression_algorithm: compression algorithm "zip"`},
		{"cni.config_dir", "/etc/cni", ""},
		{"cni.config_dir", "cni", `cni.config_dir: got "cni", want an absolute path`},
		{"cni.config_dir", "/a/../b", "want an absolute path"},
		{"cni.config_dir", "/a\nb", "want an absolute path"},
		{"cni.plugin_dirs", "/a:/b", ""},
		{"cni.plugin_dirs", "/a::/b", "want absolute paths with colons between them"},
		{"core.dns_address", "192.0.2.1", ""},
		{"core.dns_address", "192.0.2.1:5300", ""},
		{"core.dns_address", "[2001:db8::1]:53", ""},
		{"core.dns_address", "[2001:db8::1]", ""},
		{"core.dns_address", ":5300", ""},
		{"core.dns_address", ":53", `core.dns_address: ":53" is every address`},
		{"core.dns_address", "0.0.0.0", "is every address"},
		{"core.dns_address", "host:53", `core.dns_address: got "host:53", want IP, IP:PORT`},
		{"core.dns_address", "192.0.2.1:0", "want IP, IP:PORT"},
		{"core.dns_address", "", ""},
		{"core.dns_addrs", "", `unknown server configuration key "core.dns_addrs", did you mean "core.dns_address"?`},
		{"wrong", "a", "allowed are backups.compression_algorithm, cni.config_dir, cni.plugin_dirs, core.dns_address, user.*"},
		{"core.https_address", ":8443", `core.https_address: got ":8443", but it cannot be set: the API is on no network`},
		{"core.https_address", "", ""}, // It is unset already.
		{"images.compression_algorithm", "zstd", "cuib project set default"},
		{"user.a", "b\nc", ""},
		{"user.", "b", "unknown"},
		{"user.a", "\x00", "NUL"},
	} {
		err := serverkeys.Check(tt.key, tt.value)
		if tt.wrong == "" && err != nil || tt.wrong != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("%s=%s: got %v, want …%s…", tt.key, tt.value, err, tt.wrong)
		}
	}
}

func TestParseDNSAddress(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "[2001:db8::1]": "[2001:db8::1]:53", "2001:db8::1": "[2001:db8::1]:53", ":5300": "[::]:5300",
	} {
		if got, err := serverkeys.ParseDNSAddress(value); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v", value, got, err)
		}
	}
	if got, err := serverkeys.ParseDNSAddress(""); err != nil || got.IsValid() {
		t.Errorf("none: got %s, %v", got, err)
	}
	if _, err := serverkeys.ParseDNSAddress("nowhere"); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), serverkeys.DNSAddress) {
		t.Errorf("got %v", err)
	}
}

// TestTable has each key be described, be described to clients, have a default
// that it can have, and be none of those that are refused.
func TestTable(t *testing.T) {
	t.Parallel()
	groups := serverkeys.Metadata()["server"]
	for _, k := range serverkeys.Keys() {
		var told profiles.Doc
		for _, doc := range groups[k.Group].Keys {
			if d, ok := doc[k.Name]; ok {
				told = d
			}
		}
		if told.Short != k.Doc || told.Short == "" || told.Live != "yes" {
			t.Errorf("%s: clients are told %+v", k.Name, told)
		}
		if err := serverkeys.Check(k.Name, k.Default); err != nil && !strings.Contains(k.Name, "*") {
			t.Errorf("%s: %v", k.Name, err)
		}
		if got := serverkeys.Value(nil, k.Name); got != k.Default {
			t.Errorf("%s is %q where it is not set", k.Name, got)
		}
		for _, r := range serverkeys.Refusals() {
			for _, name := range r.Names {
				if profiles.Matches(name, k.Name) {
					t.Errorf("%s is served, and refused", k.Name)
				}
			}
		}
	}
	if got := serverkeys.Value(map[string]string{"user.a": "b"}, "user.a"); got != "b" {
		t.Errorf("user.a is %q", got)
	}
}
