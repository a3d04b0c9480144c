package images

import (
	"regexp"
	"slices"
	"strings"
)

// A buildSource names something that can be built.
type buildSource struct {
	distribution string
	suite        string
	variant      string // Empty, or one of variants.
}

// String returns the name as records have it, such as "debian:bookworm" or
// "debian:bookworm/cloud".
func (b buildSource) String() string {
	if b.variant != "" {
		return b.distribution + ":" + b.suite + "/" + b.variant
	}
	return b.distribution + ":" + b.suite
}

// cloud is the variant that has cloud-init.
const cloud = "cloud"

// variants are those that can be built, with the packages that they have
// beyond those of the default. Those that are named after an init have that
// in place of systemd.
var variants = map[string][]string{
	cloud:      {"cloud-init", "openssh-server", "sudo"},
	"sysvinit": {"sysvinit-core"},
	"openrc":   {"sysvinit-core", "openrc"},
	"runit":    {"runit-init", "runit", "?exact-name(wtmpdb)"}, // What trixie and later write boots down with, where there is one.
}

// Variants are the names of variants, for messages.
const Variants = "cloud, openrc, runit or sysvinit"

// otherInit tells whether the variant has another init than systemd.
func (b buildSource) otherInit() bool { return b.variant != "" && b.variant != cloud }

const debian = "debian"

// releases are Debian's suites by the version that they are.
var releases = map[string]string{
	"10": "buster", "11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky", "15": "duke",
}

// suites are the suites that an alias with a slash can name: with a colon it
// cannot be anything else, and so names any suite that the mirror has.
var suites = []string{
	"buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

var suiteName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// parseSource reads the name of something to build: "debian:bookworm",
// "debian:12", "debian/bookworm" or "debian/12", and all of these with
// one of variants after another slash. An architecture or another variant
// there, which the peers' image servers have, is not known here.
func parseSource(name string) (buildSource, bool) {
	distribution, suite, colon := strings.Cut(name, ":")
	if !colon {
		distribution, suite, _ = strings.Cut(name, "/")
	}
	suite, variant, more := strings.Cut(suite, "/")
	if codename, ok := releases[suite]; ok {
		suite = codename
	}
	if distribution != debian || !suiteName.MatchString(suite) || !colon && !slices.Contains(suites, suite) {
		return buildSource{}, false
	}
	if _, known := variants[variant]; more && !known {
		return buildSource{}, false
	}
	return buildSource{distribution, suite, variant}, true
}

// Buildable reports whether alias names something that [Service.Build] can
// make.
func (s *Service) Buildable(alias string) bool {
	_, ok := parseSource(alias)
	return ok
}
