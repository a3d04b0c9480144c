package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sysctls is where the kernel has its settings.
const sysctls = "/proc/sys"

// roomFor are limits of the kernel that all guests of a host share, although
// they are meant for one user: what guests use is counted for who made their
// user namespaces, too, and that is root. The defaults are used up by about ten
// guests with systemd, whose services then fail with "too many open files".
// Each is raised to this if it is lower; the memory is used by what uses it,
// and limits.memory counts it.
var roomFor = []struct {
	key   string
	least int
}{
	{"fs/inotify/max_user_instances", 1 << 16},
	{"fs/inotify/max_user_watches", 1 << 20},
	{"kernel/keys/maxkeys", 2000},
	{"kernel/keys/maxbytes", 2000000},
}

// makeRoom raises those limits. In a container of another host they are that
// host's affair, and not to be written, or are not there.
func makeRoom(ctx context.Context, log *slog.Logger, dir string) {
	for _, l := range roomFor {
		file := filepath.Join(dir, l.key)
		name := strings.ReplaceAll(l.key, "/", ".")
		text, err := os.ReadFile(file)
		if err == nil {
			var now int
			if now, err = strconv.Atoi(strings.TrimSpace(string(text))); err == nil && now >= l.least {
				continue
			}
		}
		if err == nil {
			err = os.WriteFile(file, []byte(strconv.Itoa(l.least)), 0) // It exists.
		}
		switch {
		case err == nil:
			log.InfoContext(ctx, "raised a limit of the kernel that all instances share", "sysctl", name, "to", l.least)
		case !errors.Is(err, fs.ErrNotExist):
			log.WarnContext(ctx, "cannot raise a limit of the kernel that all instances share", "sysctl", name, "to", l.least, "err", err)
		}
	}
}
