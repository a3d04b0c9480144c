package profiles

const (
	keyDependsOn = "boot.depends_on"
	keyWaitFor   = "boot.wait_for"
)

func bootKeys() []Key {
	const order = "a whole number"
	return []Key{
		boolean(Key{Name: "boot.autorestart", Default: "false", Live: true, Doc: "Start the instance again when its init is killed or fails; not when it shuts down, is stopped, or dies for the tenth time within a minute. Ephemeral instances are deleted instead."}),
		boolean(Key{Name: "boot.autostart", Live: true, Doc: "Whether the instance starts when the daemon starts; where it is not set, it starts if it ran when the host went down, or the daemon was told to stop all instances."}),
		{Name: "boot.autostart.delay", Type: Integer, Default: "0", Allowed: "seconds from 0 to 86400", Live: true, Doc: "How many seconds to wait after the automatic start of this instance before that of the next one.", check: between(0, 86400)},
		{Name: "boot.autostart.priority", Type: Integer, Default: "0", Allowed: order, Live: true, Doc: "Instances with a higher number start earlier when the daemon starts.", check: between(-1<<31, 1<<31-1)},
		{Name: keyDependsOn, Type: String, Allowed: `names of instances such as "db, cache"`, Live: true, Doc: "Instances that run before this one starts: they are started first, with the host as by hand, and of the same boot.stop.priority they stop after it.", check: parses(parseDependencies)},
		{Name: "boot.host_shutdown_action", Type: String, Default: "stop", Allowed: "stop or force-stop", Live: true, Doc: "What happens to the instance when the host shuts down: it is asked to shut down, or ended at once.", Differs: "There is no stateful-stop.", check: oneOf("stop", "force-stop")},
		{Name: "boot.host_shutdown_timeout", Type: Integer, Default: "30", Allowed: "seconds from 0 to 86400", Live: true, Doc: "How many seconds the instance has to end when the host shuts down, before it is killed.", check: between(0, 86400)},
		{Name: "boot.stop.priority", Type: Integer, Default: "0", Allowed: order, Live: true, Doc: "Instances with a higher number stop earlier when the host shuts down; those with the same number stop together.", check: between(-1<<31, 1<<31-1)},
		{Name: keyWaitFor, Type: String, Allowed: `a list such as "pool:tank, network:br0, path:/srv/nas"`, Live: true, Doc: "What the host must have before the instance starts: storage pools, networks or interfaces, paths; with the host it waits for them as long as it takes, by hand it is refused without them.", check: parses(parseNeeds)},
	}
}
