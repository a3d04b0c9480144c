package profiles

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// sshKeys is what the names of keys begin with that give users of a guest SSH
// keys.
const sshKeys = "cloud-init.ssh-keys."

// cloudConfig is the first line of what cloud-init takes for a configuration.
const cloudConfig = "#cloud-config"

var sshUser = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)

// isSSHKey reports whether a value is USER:KEY, where the key is a line of
// authorized_keys, or where to get one from, as gh:NAME and lp:NAME.
func isSSHKey(v string) bool {
	user, key, ok := strings.Cut(v, ":")
	return ok && sshUser.MatchString(user) && strings.TrimSpace(key) != "" && oneLine(key)
}

// CloudInit returns the options of an instance, which are valid, as cloud-init
// in the guest is to have them: with the SSH keys in the vendor data, and in what
// would keep it from seeing those there; and without a network to set up, where
// that is the host's. It does not change c.
func CloudInit(c Config) map[string]string {
	opts := c.Options
	if HostNICOf(c.Devices) != "" {
		opts = maps.Clone(opts)
		opts[networkConfig] = "config: disabled\n"
	}
	return withSSHKeys(opts)
}

func withSSHKeys(opts map[string]string) map[string]string {
	keys := map[string][]string{} // By user.
	for name, v := range sorted(opts) {
		if strings.HasPrefix(name, sshKeys) && isSSHKey(v) {
			user, key, _ := strings.Cut(v, ":")
			keys[user] = append(keys[user], strings.TrimSpace(key))
		}
	}
	if len(keys) == 0 {
		return opts
	}
	out := maps.Clone(opts)
	given := addUsers(out, "vendor-data", keys, always)
	if given {
		addUsers(out, "user-data", keys, ifUsers) // Its users take the place of the vendor's.
	} else {
		addUsers(out, "user-data", keys, always)
	}
	return out
}

// when says when users are added to a configuration.
type when int

const (
	always  when = iota
	ifUsers      // It has some already.
)

// addUsers adds users with their SSH keys to one of the documents for
// cloud-init. It reports whether that is possible: it can be a script, or
// anything else.
func addUsers(opts map[string]string, document string, keys map[string][]string, w when) bool {
	name := "cloud-init." + document
	text := opts[name]
	if text == "" && opts["user."+document] != "" {
		name = "user." + document
		text = opts[name]
	}
	config := map[string]any{}
	first, rest, _ := strings.Cut(text, "\n")
	if text != "" && strings.TrimSpace(first) != cloudConfig || yaml.Unmarshal([]byte(rest), &config) != nil {
		return false
	}
	users, some := config["users"].([]any)
	if !some && (w == ifUsers || config["users"] != nil) {
		return w == ifUsers
	}
	if !some {
		users = []any{"default"} // As without a list.
	}
	for _, user := range slices.Sorted(maps.Keys(keys)) {
		users = addKeys(users, user, keys[user])
	}
	if config == nil { // The text has nothing but the first line.
		config = map[string]any{}
	}
	config["users"] = users
	data, err := yaml.Marshal(config)
	if err != nil {
		return false
	}
	opts[name] = cloudConfig + "\n" + string(data)
	return true
}

// addKeys adds keys to a user of a list, which it adds if it is not there.
func addKeys(users []any, name string, keys []string) []any {
	var user map[string]any
	for _, u := range users {
		if m, ok := u.(map[string]any); ok && m["name"] == name {
			user = m
		}
	}
	if user == nil {
		user = map[string]any{"name": name}
		users = append(users, user)
	}
	for _, key := range keys {
		option := "ssh_authorized_keys"
		if strings.HasPrefix(key, "gh:") || strings.HasPrefix(key, "lp:") {
			option = "ssh_import_id"
		}
		list, _ := user[option].([]any) // Whatever else is there is no list.
		user[option] = append(list, key)
	}
	return users
}
