package profiles

// guestAPIKeys have two names each: those of Incus and of LXD.
func guestAPIKeys() []Key {
	const (
		open   = "Whether the guest can ask about its own configuration at /dev/incus/sock and /dev/lxd/sock"
		images = "Whether the guest can fetch public and cached images of the host at its socket, as a container manager in it does"
		same   = "; the same as "
	)
	return []Key{
		boolean(Key{Name: "security.devlxd", Default: "true", Live: true, Doc: open + same + "security.guestapi."}),
		boolean(Key{Name: "security.devlxd.images", Default: "false", Live: true, Doc: images + same + "security.guestapi.images."}),
		boolean(Key{Name: "security.devlxd.management.volumes", Default: "false", Live: true, Doc: "Whether the guest can make volumes of its own in storage pools, and attach them, at its socket.", Differs: "The guest is known by its socket and needs no token; what it makes is its instance's alone."}),
		boolean(Key{Name: "security.guestapi", Default: "true", Live: true, Doc: open + "."}),
		boolean(Key{Name: "security.guestapi.images", Default: "false", Live: true, Doc: images + "."}),
	}
}

// GuestAPI says what a guest may ask at its socket.
type GuestAPI struct {
	Off    bool // Nothing.
	Images bool // Images of the host.

	Volumes bool // To make volumes and attach them.
}

// ParseGuestAPI returns what options, which are valid, mean for the guest's
// socket. Where two names of a key disagree, what keeps the guest from more
// wins.
func ParseGuestAPI(opts map[string]string) GuestAPI {
	o := options(opts)
	return GuestAPI{
		Off:     o.refuses("security.guestapi") || o.refuses("security.devlxd"),
		Images:  o.grants("security.guestapi.images", "security.devlxd.images"),
		Volumes: o.bool("security.devlxd.management.volumes"),
	}
}

// refuses reports whether a boolean option says no.
func (o options) refuses(key string) bool { return o[key] != "" && !o.bool(key) }

// grants reports whether one of two boolean options says yes and none no.
func (o options) grants(a, b string) bool {
	return (o.bool(a) || o.bool(b)) && !o.refuses(a) && !o.refuses(b)
}
