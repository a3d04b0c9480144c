package images

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
)

func TestParseSource(t *testing.T) {
	for name, want := range map[string]string{
		"debian:bookworm": "debian:bookworm", "debian:12": "debian:bookworm", "debian/12": "debian:bookworm", "debian/trixie": "debian:trixie",
		"debian:13": "debian:trixie", "debian:sid": "debian:sid", "debian/stable": "debian:stable", "debian:some-new": "debian:some-new",
		"debian": "", "debian:": "", "debian/": "", "debian/nosuch": "", "debian/12/cloud": "debian:bookworm/cloud", "debian:sid/cloud": "debian:sid/cloud",
		"debian:sid/default": "", "debian:12/sysvinit": "debian:bookworm/sysvinit", "debian/sid/runit": "debian:sid/runit", "debian:sid/upstart": "", "debian:sid/": "", "debian/12/cloud/amd64": "", "ubuntu:noble": "", "debian:99": "",
		"debian:../x": "", "debian:--help": "", "debian:a b": "", "": "", "Debian:sid": "",
	} {
		got, ok := parseSource(name)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v, want %q", name, got, ok, want)
		}
	}
}

const (
	hostSources = `# See sources.list(5)
Types: deb
URIs: https://download.docker.com/linux/debian
Suites: bookworm
Components: stable

Types: deb deb-src
# A comment between.
URIs: http://mirror/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
 non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-bookworm-stable.gpg

Types: deb
URIs: http://mirror/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off/debian
Suites: sid
Components: main
`
	hostList = `# comment
deb [arch=amd64 signed-by=/k.gpg] http://old/debian bullseye main contrib # more
deb-src http://old/debian bullseye main
deb http://old/security bullseye-security main
deb http://other/ ./
`
)

func TestDebianSources(t *testing.T) {
	tests := map[string]struct {
		host  []aptSource
		suite string
		want  string
	}{
		"the host's own": {parseDeb822(hostSources), "bookworm", `http://mirror/debian bookworm main,contrib,non-free-firmware /usr/share/keyrings/debian-archive-bookworm-stable.gpg
http://mirror/debian bookworm-updates main,contrib,non-free-firmware /usr/share/keyrings/debian-archive-bookworm-stable.gpg
http://mirror/debian-security bookworm-security main ` + debianKeyring},
		"a newer one": {parseDeb822(hostSources), "trixie", `http://mirror/debian trixie main,contrib,non-free-firmware ` + debianKeyring + `
http://mirror/debian trixie-updates main,contrib,non-free-firmware ` + debianKeyring + `
http://mirror/debian-security trixie-security main ` + debianKeyring},
		"sid":               {parseDeb822(hostSources), "sid", `http://mirror/debian sid main,contrib,non-free-firmware ` + debianKeyring},
		"an older one":      {parseDeb822(hostSources)[:2], "bullseye", `http://mirror/debian bullseye main,contrib ` + debianKeyring},
		"in one-line style": {parseOneLine(hostList), "bullseye", "http://old/debian bullseye main,contrib /k.gpg\nhttp://old/security bullseye-security main " + debianKeyring},
		"none of Debian":    {parseOneLine("deb http://x ./\ndeb http://y noble main"), "sid", ""},
	}
	for name, tt := range tests {
		got, err := debianSources(tt.host, tt.suite)
		if tt.want == "" {
			if !errs.Is(err, errs.Unsupported) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
			continue
		}
		var lines []string
		for _, s := range got {
			lines = append(lines, s.uri+" "+s.suite+" "+strings.Join(s.components, ",")+" "+s.signedBy)
		}
		if text := strings.Join(lines, "\n"); err != nil || text != tt.want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", name, err, text, tt.want)
		}
		if back := parseDeb822(formatSources(got)); !reflect.DeepEqual(back, got) {
			t.Errorf("%s: written and read again: %v, want %v", name, back, got)
		}
	}
}

func TestPickOptions(t *testing.T) {
	got := pickOptions([]string{
		`APT::Architecture "amd64";`, `Acquire::Check-Valid-Until "false";`, `Acquire::http::Proxy "http://p:3128";`,
		`Acquire::https::Proxy "http://me:secret@p:3128";`, `Acquire::Languages "none";`, `Acquire::Retries "3";`,
	})
	if len(got.host) != 4 || strings.Join(got.image, "") != "Acquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy \"http://p:3128\";\n" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte("architecture: x86_64\ncreation_date: 1\nproperties: {a: 1}\ntemplates: {/x: {template: y, when: [create], mode: '0644'}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("templates: {/x: }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMetadata(data)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("got %v", err)
			}
			return
		}
		if architectures[m.Architecture] != m.Architecture || m.CreationDate <= 0 {
			t.Errorf("got %+v", m)
		}
		again, err := formatMetadata(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseMetadata(again); err != nil {
			t.Errorf("written and read again: %v\n%s", err, again)
		}
	})
}
