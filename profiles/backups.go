package profiles

import "strings"

// The keys of backups in repositories, which instances and custom volumes
// have.
const (
	keyBackupRepository = "backups.repository"
	keyBackupSchedule   = "backups.schedule"
	prefixKeep          = "backups.keep."
)

// KeepPeriods are what the retention of backups counts by, as in
// backups.keep.daily, with what is counted.
var KeepPeriods = [][2]string{
	{"last", "the last backups"},
	{"hourly", "the last backups of hours"},
	{"daily", "the last backups of days"},
	{"weekly", "the last backups of weeks"},
	{"monthly", "the last backups of months"},
	{"yearly", "the last backups of years"},
}

func backupKeys() []Key {
	keys := []Key{
		{Name: keyBackupRepository, Type: String, Allowed: "the name of a backup repository", Live: true, Doc: "Where backups by backups.schedule go.", check: CheckRepositoryName},
		{Name: keyBackupSchedule, Type: String, Allowed: wantSchedule + ", but not @startup", Live: true, Doc: "When the daemon makes backups by itself, in backups.repository; a time that passed while it did not run is made up for once.", check: checkBackupSchedule},
	}
	for _, p := range KeepPeriods {
		keys = append(keys, Key{
			Name: prefixKeep + p[0], Type: Integer, Allowed: "a number of backups, at least 1", Live: true,
			Doc:   "How many of " + p[1] + " are kept in repositories; where no backups.keep is set, what the repository says holds.",
			check: between(1, 1<<31-1),
		})
	}
	return keys
}

func checkBackupSchedule(v string) error {
	s, err := ParseSchedule(v)
	if err == nil && s.Startup {
		err = errNo
	}
	return err
}

// CheckRepositoryName reports what is wrong with the name of a backup
// repository.
func CheckRepositoryName(name string) error {
	const want = `1 to 63 letters, digits, and ".", "_", "-", with a letter or digit first`
	return checkName("backup repository", name, want, func() bool {
		return len(name) <= 63 && only(name, letters+digits+"._-") && !strings.ContainsRune("._-", rune(name[0]))
	})
}

// Backups says when an instance or a volume is backed up, and how long that
// is kept.
type Backups struct {
	Repository string            // Empty for none.
	Schedule   string            // See [ParseSchedule]; empty for never.
	Keep       map[string]string // By the periods of [KeepPeriods]; empty where nothing is said.
}

// BackupsOf reads the keys of backups of an expanded configuration.
func BackupsOf(config map[string]string) Backups {
	out := Backups{Repository: config[keyBackupRepository], Schedule: config[keyBackupSchedule], Keep: map[string]string{}}
	for _, p := range KeepPeriods {
		if v := config[prefixKeep+p[0]]; v != "" {
			out.Keep[p[0]] = v
		}
	}
	return out
}
