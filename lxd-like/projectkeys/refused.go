package projectkeys

import "github.com/cuib/cuib/profiles"

// A Refusal is a key that projects of LXD and Incus have and none has here, with
// the reason.
type Refusal struct {
	Name  string // With * for any text.
	Value string // The only value that can be had; empty for none.
	Why   string
}

const whyNoUpdate = "images are not brought up to date by themselves: copy the image again"

// Refusals returns all of them.
func Refusals() []Refusal {
	return []Refusal{
		{Name: "images.auto_update_cached", Value: "false", Why: whyNoUpdate},
		{Name: "images.auto_update_interval", Value: "0", Why: whyNoUpdate},
		{Name: "replica.cluster", Why: noCluster},
	}
}

// refused returns why a key cannot have a value, which is normal.
func refused(name, value string) (why string, no bool) {
	for _, r := range Refusals() {
		if profiles.Matches(r.Name, name) && (value == "" || value != r.Value) {
			return r.Why, true
		}
	}
	return "", false
}
