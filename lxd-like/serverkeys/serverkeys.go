// Package serverkeys has the table of configuration keys of the server. What
// checks a value, the descriptions that clients are given and
// docs/config-keys.md are all made from the table's rows.
//
// It is pure: it knows no database and looks at no host.
package serverkeys

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
)

// The keys that others ask for.
const (
	BackupCompression = "backups.compression_algorithm"
	CNIConfigDir      = "cni.config_dir"
	CNIPluginDirs     = "cni.plugin_dirs"
	DNSAddress        = "core.dns_address"
)

// A Key is a row of the table.
type Key struct {
	profiles.Key // A change of any key is live.

	// check reports what is wrong with a value, which is not empty:
	// profiles.ErrValue where Allowed says all. Nil accepts any text.
	check func(value string) error
}

// Keys returns the whole table, by group.
func Keys() []Key {
	all := []Key{
		{Key: profiles.Key{Name: BackupCompression, Group: "backups", Type: profiles.String, Default: "zstd", Allowed: "a compression such as gzip or zstd", Doc: "How backups are compressed that ask for no compression, and whose project says nothing of it."}, check: checkCompression},
		{Key: profiles.Key{Name: CNIConfigDir, Group: "cni", Type: profiles.String, Default: cni.ConfigDir, Allowed: "an absolute path", Doc: "The directory of the host with configurations of networks for nics of nictype cni."}, check: checkDir},
		{Key: profiles.Key{Name: CNIPluginDirs, Group: "cni", Type: profiles.String, Default: cni.PluginDirs, Allowed: "absolute paths with colons between them", Doc: "The directories of the host with the network plugins that those configurations name."}, check: checkDirs},
		{Key: profiles.Key{Name: DNSAddress, Group: "core", Type: profiles.String, Allowed: "IP, IP:PORT, [IPV6]:PORT or :PORT", Doc: "The address where network zones are served by DNS; nowhere if it is not set. The port is 53 if none is given."}, check: checkAddress},
		{Key: profiles.Key{Name: "user.*", Group: "miscellaneous", Type: profiles.Blob, Doc: "Anything that users want to keep with the server."}},
	}
	for i := range all {
		all[i].Live = true
	}
	return all
}

var table = sync.OnceValue(Keys)

// find returns the row for a key.
func find(name string) (Key, bool) { return profiles.Find(table(), name) }

// Check reports that a key is unknown, or what is wrong with its value. An
// empty one unsets the key.
func Check(name, value string) error {
	if err := profiles.CheckText(name, value); err != nil {
		return err
	}
	k, ok := find(name)
	switch {
	case !ok:
		return unknown(name, value)
	case value == "" || k.check == nil:
		return nil
	}
	if err := k.check(value); err != nil {
		return errs.Invalidf("%s: %w", name, k.WrongValue(err, value))
	}
	return nil
}

// unknown is the error for a key that is not in the table; none if it is one of
// the peers' and is only unset.
func unknown(name, value string) error {
	if why, no := refused(name); no {
		if value == "" {
			return nil
		}
		return errs.Invalidf("%s: %w", name, profiles.Key{}.RefuseValue(value, why))
	}
	var known []string
	for _, k := range table() {
		known = append(known, k.Name)
	}
	return errs.Invalidf("%w: allowed are %s", profiles.Unknown("server configuration key", name, known), strings.Join(known, ", "))
}

// Value is what a key says in a configuration, or what holds if it is not set.
func Value(config map[string]string, name string) string {
	if v := config[name]; v != "" {
		return v
	}
	k, _ := find(name)
	return k.Default
}

// Dirs reads directories with colons between them.
func Dirs(value string) []string { return strings.Split(value, ":") }

func checkCompression(value string) error {
	_, err := archive.ParseCompression(value)
	return err
}

func checkDir(value string) error {
	if !filepath.IsAbs(value) || filepath.Clean(value) != value || strings.Contains(value, "\n") {
		return profiles.ErrValue
	}
	return nil
}

func checkDirs(value string) error {
	if slices.ContainsFunc(Dirs(value), func(dir string) bool { return checkDir(dir) != nil }) {
		return profiles.ErrValue
	}
	return nil
}

// Metadata returns the table as GET /1.0/metadata/configuration has it.
func Metadata() map[string]map[string]profiles.DocGroup {
	all := map[string]profiles.DocGroup{}
	for _, k := range table() {
		profiles.AddDoc(all, k.Key, k.Describe())
	}
	return map[string]map[string]profiles.DocGroup{"server": all}
}
