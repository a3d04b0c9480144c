package repository

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// The keys of a repository that are named in several places.
const (
	keyLocation  = "location"
	keyPassword  = "password"
	keyAccess    = "s3.access_key"
	keySecret    = "s3.secret_key"
	keyRegion    = "s3.region"
	keySFTPKey   = "sftp.key"
	keySFTP      = "sftp.command"
	keyUpload    = "limits.upload"
	keyDownload  = "limits.download"
	prefixKeep   = "keep."
	prefixUser   = "user."
	wantLocation = `a directory such as "/mnt/backup", "sftp:USER@HOST:/DIR" or "s3:URL/BUCKET"`
)

// A key is a row of the table of configuration keys.
type key struct {
	allowed string // After "want".
	secret  bool   // It is in no answer.
	fixed   bool   // It cannot be changed.
	check   func(value string) bool
}

func keys() map[string]key {
	const rate = `bytes a second such as "10MiB"`
	all := map[string]key{
		keyLocation: {allowed: wantLocation, check: isLocation},
		keyPassword: {allowed: "text of one line", secret: true, fixed: true, check: isLine},
		keyAccess:   {allowed: "text of one line", check: isLine},
		keySecret:   {allowed: "text of one line", secret: true, check: isLine},
		keyRegion:   {allowed: "the name of a region", check: isLine},
		keySFTPKey:  {allowed: "the absolute path of a private key", check: filepath.IsAbs},
		keySFTP:     {allowed: `a command that speaks SFTP, such as "ssh -p 2222 me@host -s sftp"`, check: isLine},
		keyUpload:   {allowed: rate, check: isRate},
		keyDownload: {allowed: rate, check: isRate},
	}
	for _, period := range Periods {
		all[prefixKeep+period] = key{allowed: "a number of backups, at least 1", check: isCount}
	}
	return all
}

// Periods are what retention counts by: "daily" backups are the last ones of
// their days.
var Periods = []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"}

var locations = regexp.MustCompile(`^(/.+|sftp:[^/:][^:]*:.+|sftp://[^/]+/.+|s3:https?://[^/]+/.+|s3:[^/:]+/.+)$`)

func isLine(v string) bool { return !strings.ContainsAny(v, "\n\r\x00") }

func isLocation(v string) bool { return isLine(v) && locations.MatchString(v) }

func isRate(v string) bool {
	n, err := units.ParseBytes(v)
	return err == nil && n >= 1024
}

func isCount(v string) bool {
	n, err := strconv.Atoi(v)
	return err == nil && n >= 1
}

// checkConfig returns the first key, by name, that is unknown or has a bad
// value.
func checkConfig(config map[string]string) error {
	table := keys()
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if strings.HasPrefix(name, prefixUser) {
			continue
		}
		k, ok := table[name]
		if !ok {
			known := append(slices.Sorted(maps.Keys(table)), prefixUser+"*")
			return errs.Invalidf("configuration key %q is not known to backup repositories: use %s", name, strings.Join(known, ", "))
		}
		value := config[name]
		if value == "" || k.check(value) {
			continue
		}
		if k.secret {
			return errs.Invalidf("configuration key %q: want %s", name, k.allowed)
		}
		return errs.Invalidf("configuration key %q: got %q, want %s", name, value, k.allowed)
	}
	return nil
}

// given returns config without empty values.
func given(config map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range config {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// shown returns the configuration that clients see.
func shown(config map[string]string) map[string]string {
	table := keys()
	out := maps.Clone(config)
	maps.DeleteFunc(out, func(name, _ string) bool { return table[name].secret })
	return out
}

// changed returns the configuration that put makes of config. Secrets, which
// nobody can read to send them back, stay where put does not have them.
func changed(config, put map[string]string) (map[string]string, error) {
	out := given(put)
	for name, k := range keys() {
		_, has := put[name]
		switch {
		case k.fixed && has && put[name] != config[name]:
			return nil, errs.Invalidf("configuration key %q of a backup repository cannot be changed: remove it, and add it with the other password", name)
		case k.secret && !has && config[name] != "":
			out[name] = config[name]
		}
	}
	if out[keyLocation] == "" {
		return nil, errs.Invalidf("configuration key %q: it is missing, want %s", keyLocation, wantLocation)
	}
	return out, nil
}

// isLocal reports whether a repository is a directory of this host.
func isLocal(location string) bool { return strings.HasPrefix(location, "/") }
