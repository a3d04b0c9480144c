package images

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// An aptSource is a place that apt gets packages of one suite from.
type aptSource struct {
	uri        string
	suite      string
	components []string
	signedBy   string // A file; empty if apt trusts the source by other means.
}

// aptSources reads where the host gets its packages from: sources.list and
// the files in sources.list.d, in both of their formats. What it cannot read
// it leaves out, as apt would have complained about that.
func aptSources(dir string) ([]aptSource, error) {
	files := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var all []aptSource
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file, ".sources") {
			all = append(all, parseDeb822(string(data))...)
		} else {
			all = append(all, parseOneLine(string(data))...)
		}
	}
	return all, nil
}

var (
	spaces      = regexp.MustCompile(`\s+`)
	aptComment  = regexp.MustCompile(`(?m)(^|\s)#.*$`)
	listEntry   = regexp.MustCompile(`^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)$`)
	listOption  = regexp.MustCompile(`signed-by\s*=\s*"?([^\s"]+)`)
	emptyLines  = regexp.MustCompile(`\n[ \t]*\n`)
	commentLine = regexp.MustCompile(`(?m)^#.*\n?`)
)

// parseOneLine reads the format of sources.list: deb [OPTIONS] URI SUITE COMPONENT...
func parseOneLine(text string) (all []aptSource) {
	for line := range strings.Lines(aptComment.ReplaceAllString(text, "")) {
		m := listEntry.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		s := aptSource{uri: m[2], suite: m[3], components: strings.Fields(m[4])}
		if o := listOption.FindStringSubmatch(m[1]); o != nil {
			s.signedBy = o[1]
		}
		all = append(all, s)
	}
	return all
}

// parseDeb822 reads the format of *.sources: stanzas of fields.
func parseDeb822(text string) (all []aptSource) {
	for _, stanza := range emptyLines.Split(commentLine.ReplaceAllString(text, ""), -1) {
		f := deb822Fields(stanza)
		if !slices.Contains(strings.Fields(f["types"]), "deb") || f["enabled"] == "no" || f["enabled"] == "false" {
			continue
		}
		signedBy := f["signed-by"]
		if !strings.HasPrefix(signedBy, "/") || spaces.MatchString(signedBy) {
			signedBy = "" // A key that is written there, or several files.
		}
		for uri := range strings.FieldsSeq(f["uris"]) {
			for suite := range strings.FieldsSeq(f["suites"]) {
				all = append(all, aptSource{uri, suite, strings.Fields(f["components"]), signedBy})
			}
		}
	}
	return all
}

func deb822Fields(stanza string) map[string]string {
	fields := map[string]string{}
	last := ""
	in := bufio.NewScanner(strings.NewReader(stanza))
	for in.Scan() {
		line := in.Text()
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			fields[last] += " " + strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		last = strings.ToLower(strings.TrimSpace(name))
		fields[last] = strings.TrimSpace(value)
	}
	return fields
}

// pockets are what follows the name of a suite in those that belong to it.
const (
	updatesPocket  = "-updates"
	securityPocket = "-security"
)

// debianSources returns where packages of a suite come from: from where the
// host gets its own.
func debianSources(host []aptSource, suite string) ([]aptSource, error) {
	var main *aptSource
	extra := map[string]aptSource{}
	for _, s := range host {
		base, pocket := splitSuite(s.suite)
		if !slices.Contains(suites, base) || !slices.Contains(s.components, "main") {
			continue // Not Debian itself.
		}
		switch pocket {
		case "":
			if main == nil || base == suite {
				main = &s
			}
		case updatesPocket, securityPocket:
			if _, ok := extra[pocket]; !ok || base == suite {
				extra[pocket] = s
			}
		}
	}
	if main == nil {
		return nil, errs.Newf(errs.Unsupported, "the host's apt has no source of Debian's own packages: without one there is no mirror to build an image from")
	}
	out := []aptSource{retarget(*main, suite, "")}
	for _, pocket := range []string{updatesPocket, securityPocket} {
		if s, ok := extra[pocket]; ok && hasPockets(suite) {
			out = append(out, retarget(s, suite, pocket))
		}
	}
	return out, nil
}

// splitSuite takes the name of a suite apart: "bookworm-security" is
// "bookworm" and "-security".
func splitSuite(name string) (base, pocket string) {
	name = strings.TrimSuffix(name, "/updates")
	if i := strings.IndexByte(name, '-'); i > 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// hasPockets reports whether a suite has one for updates and one for security:
// released ones do.
func hasPockets(suite string) bool {
	return slices.Contains([]string{"buster", "bullseye", "bookworm", "trixie", "oldoldstable", "oldstable", "stable"}, suite)
}

// retarget returns s for another suite.
func retarget(s aptSource, suite, pocket string) aptSource {
	if base, _ := splitSuite(s.suite); s.signedBy == "" || base != suite {
		s.signedBy = debianKeyring // The keys of all suites.
	}
	s.suite = suite + pocket
	if suite == "buster" && pocket == securityPocket {
		s.suite = "buster/updates"
	}
	s.components = slices.DeleteFunc(slices.Clone(s.components), func(c string) bool {
		return c == "non-free-firmware" && (suite == "buster" || suite == "bullseye")
	})
	return s
}

// debianKeyring is where the keys of Debian's archive are, on the host and in
// the image.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// formatSources writes sources in the format of *.sources.
func formatSources(all []aptSource) string {
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString("Types: deb\nURIs: " + s.uri + "\nSuites: " + s.suite + "\nComponents: " + strings.Join(s.components, " ") + "\nSigned-By: " + s.signedBy + "\n")
	}
	return b.String()
}
