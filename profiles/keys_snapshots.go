package profiles

func snapshotKeys() []Key {
	const times = `times such as "3d" or "1M 2H" (S seconds, M minutes, H hours, d days, w weeks, m months, y years)`
	return []Key{
		{Name: "snapshots.expiry", Type: String, Allowed: times, Live: true, Doc: "How long new snapshots are kept.", check: parses(parseExpiry)},
		{Name: "snapshots.expiry.manual", Type: String, Allowed: times, Live: true, Doc: "How long new snapshots are kept that a user makes, instead of snapshots.expiry.", check: parses(parseExpiry)},
		{Name: "snapshots.pattern", Type: String, Default: "snap%d", Allowed: `a name with "%d" for a number, or with {{ creation_date }} or {{ creation_date|date:'2006-01-02' }}`, Live: true, Doc: "The name of snapshots that nobody names.", check: checkPattern},
		{Name: "snapshots.schedule", Type: String, Allowed: wantSchedule, Live: true, Doc: "When the daemon makes snapshots by itself; a time that passed while it did not run is made up for once.", check: checkSchedule},
		boolean(Key{Name: "snapshots.schedule.stopped", Default: "false", Live: true, Doc: "Whether snapshots are made by snapshots.schedule while the instance does not run, too."}),
	}
}
