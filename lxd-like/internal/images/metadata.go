package images

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// The names within an image.
const (
	metadataFile = "metadata.yaml"
	templatesDir = "templates"
	rootfsDir    = "rootfs"
)

// maxMetadata is how large metadata.yaml can be.
const maxMetadata = 1 << 20

// architectures are the names that the kernel has for what images call by
// other names as well.
var architectures = map[string]string{
	"i686": "i686", "i386": "i686", "i586": "i686", "x86": "i686",
	"x86_64": "x86_64", "amd64": "x86_64",
	"armv6l": "armv6l", "armel": "armv6l",
	"armv7l": "armv7l", "armhf": "armv7l", "armv7": "armv7l",
	"armv8l":  "armv8l",
	"aarch64": "aarch64", "arm64": "aarch64",
	"ppc": "ppc", "powerpc": "ppc",
	"ppc64": "ppc64", "ppc64le": "ppc64le", "ppc64el": "ppc64le",
	"s390x": "s390x",
	"mips":  "mips", "mips64": "mips64", "mips64el": "mips64", "mipsel": "mips",
	"riscv32": "riscv32", "riscv64": "riscv64",
	"loongarch64": "loongarch64", "loong64": "loongarch64",
}

// ParseMetadata reads metadata.yaml and checks it. The architecture that it
// returns has the kernel's name.
func ParseMetadata(data []byte) (api.ImageMetadata, error) {
	var m api.ImageMetadata
	if err := yaml.Unmarshal(data, &m); err != nil {
		return m, errs.Newf(errs.Invalid, "metadata.yaml: %w", err)
	}
	arch, ok := architectures[m.Architecture]
	if !ok {
		return m, errs.Invalidf("metadata.yaml: architecture is %q: want one of %s", m.Architecture,
			strings.Join(slices.Compact(slices.Sorted(maps.Values(architectures))), ", "))
	}
	m.Architecture = arch
	if m.CreationDate <= 0 {
		return m, errs.Invalidf("metadata.yaml: creation_date is %d: want seconds since 1970", m.CreationDate)
	}
	if m.ExpiryDate < 0 {
		return m, errs.Invalidf("metadata.yaml: expiry_date is %d: want seconds since 1970, or 0 for never", m.ExpiryDate)
	}
	for target, t := range m.Templates {
		if err := checkTemplate(target, t); err != nil {
			return m, errs.Newf(errs.Invalid, "metadata.yaml: template of %q: %w", target, err)
		}
	}
	return m, nil
}

func checkTemplate(target string, t *api.ImageMetadataTemplate) error {
	if t == nil {
		return errs.Invalidf("it is empty")
	}
	if t.Template == "" || t.Template != path.Base(t.Template) || t.Template == ".." || t.Template == "." || t.Template == "/" {
		return errs.Invalidf("template is %q: want the name of a file in %s/", t.Template, templatesDir)
	}
	if strings.Trim(target, "/.") == "" || strings.ContainsRune(target, 0) {
		return errs.Invalidf("its key is not the path of a file")
	}
	for field, value := range map[string]string{"uid": t.UID, "gid": t.GID} {
		if _, err := parseID(value); err != nil {
			return errs.Newf(errs.Invalid, "%s is %q: want a number", field, value)
		}
	}
	if _, err := parseMode(t.Mode); err != nil {
		return errs.Newf(errs.Invalid, `mode is %q: want an octal number such as "0644"`, t.Mode)
	}
	return nil
}

// parseID reads a user or group id; -1, which changes nothing, if it is empty.
func parseID(s string) (int, error) {
	if s == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err //nolint:gosec // It has 31 bits.
}

// parseMode reads a file's mode; 0644 if it is empty.
func parseMode(s string) (uint32, error) {
	if s == "" {
		return 0o644, nil
	}
	n, err := strconv.ParseUint(s, 8, 12)
	return uint32(n), err //nolint:gosec // It has 12 bits.
}

// unixTime returns the time of a date in metadata.yaml.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// formatMetadata is the inverse of [ParseMetadata].
func formatMetadata(m api.ImageMetadata) ([]byte, error) {
	data, err := yaml.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("metadata.yaml: %w", err)
	}
	return data, nil
}
