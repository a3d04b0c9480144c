package netkeys

import "github.com/cuib/cuib/profiles"

// ZoneKeys are the keys of network zones. Who keeps zones checks their values.
func ZoneKeys() []profiles.Key {
	return []profiles.Key{
		{Name: "dns.contact", Group: "zone", Type: profiles.String, Default: "hostmaster@ the zone", Allowed: "a mail address", Live: true, Doc: "Who answers for the zone: what its SOA says."},
		{Name: "dns.nameservers", Group: "zone", Type: profiles.String, Default: "the zone's own name", Allowed: "names of servers with commas between them", Live: true, Doc: "The servers that the world asks for the zone: its NS records."},
		{Name: "network.nat", Group: "zone", Type: profiles.Bool, Default: "true", Allowed: wantBool, Live: true, Doc: "Whether the zone has the addresses that are translated on the way out, and mean nothing elsewhere."},
		{Name: "peers.*.address", Group: "zone", Type: profiles.String, Allowed: "an IP address", Live: true, Doc: "The address of a server that may have the zone, and is told of changes."},
		{Name: "peers.*.key", Group: "zone", Type: profiles.String, Allowed: "at least 8 bytes in Base64", Live: true, Doc: "The secret of the TSIG key that the server signs with; the key's name is that of the zone, an underscore and that of the peer."},
		{Name: "user.*", Group: "zone", Type: profiles.Blob, Live: true, Doc: "Anything that users want to keep with the zone."},
	}
}

// zoneMetadata is the description of the keys of zones.
func zoneMetadata() map[string]profiles.DocGroup {
	var g profiles.DocGroup
	for _, k := range ZoneKeys() {
		g.Keys = append(g.Keys, map[string]profiles.Doc{k.Name: k.Describe()})
	}
	return map[string]profiles.DocGroup{"config-options": g}
}
