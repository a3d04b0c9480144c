package netkeys

import (
	"regexp"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/project"
)

// aclKeys name the ACLs of a network. Which there are, and what they mean, knows
// their own service.
func aclKeys() []Key {
	const (
		acls   = "security.acls"
		action = "allow, reject or drop"
	)
	actions := oneOf("allow", "reject", "drop")
	logged := func(_ *networks.Config, _, v string) error {
		_, err := parseBool(v)
		return err
	}
	return []Key{
		{Key: profiles.Key{Name: acls, Type: profiles.String, Allowed: "names of network ACLs, with commas between them", Doc: "The ACLs that say what passes between the network and the host or other networks."}, Types: bridges, Set: setACLs},
		{Key: profiles.Key{Name: acls + ".default.egress.action", Type: profiles.String, Default: "reject", Allowed: action, Doc: "What happens to what instances send and no rule of the ACLs is about."}, Types: bridges, Set: actions},
		{Key: profiles.Key{Name: acls + ".default.egress.logged", Type: profiles.Bool, Default: "false", Allowed: wantBool, Doc: "Log it."}, Types: bridges, Set: logged},
		{Key: profiles.Key{Name: acls + ".default.ingress.action", Type: profiles.String, Default: "reject", Allowed: action, Doc: "What happens to what is sent to instances and no rule of the ACLs is about."}, Types: bridges, Set: actions},
		{Key: profiles.Key{Name: acls + ".default.ingress.logged", Type: profiles.Bool, Default: "false", Allowed: wantBool, Doc: "Log it."}, Types: bridges, Set: logged},
	}
}

var aclName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,62}$`)

func setACLs(_ *networks.Config, _, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for i, name := range all {
		if !aclName.MatchString(project.Name(name)) || slices.Contains(all[:i], name) {
			return profiles.ErrValue
		}
	}
	return nil
}
