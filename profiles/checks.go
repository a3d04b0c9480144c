package profiles

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/units"
)

// errNo is what a check returns where the row's Allowed says all.
var errNo = errors.New("not allowed")

// is makes a check of a condition.
func is(ok func(string) bool) func(string) error {
	return func(v string) error {
		if !ok(v) {
			return errNo
		}
		return nil
	}
}

// parses makes a check of a parser.
func parses[T any](parse func(string) (T, error)) func(string) error {
	return is(func(v string) bool {
		_, err := parse(v)
		return err == nil
	})
}

func oneOf(all ...string) func(string) error {
	return is(func(v string) bool { return slices.Contains(all, v) })
}

func between(least, most int64) func(string) error {
	return is(func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= least && n <= most
	})
}

// ParseBool reads a boolean value as users write them.
func ParseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off", "":
		return false, nil
	}
	return false, errs.Invalidf("got %q, want true or false", v)
}

// parseMemory reads a size or, if total is known, a share of it.
func parseMemory(v string, total int64) (int64, error) {
	if !strings.HasSuffix(v, "%") {
		n, err := units.ParseBytes(v)
		if err == nil && n == 0 {
			err = errNo
		}
		return n, err
	}
	p, err := units.ParsePercent(v)
	if err != nil || p == 0 {
		return 0, errors.Join(err, errNo)
	}
	return share(p, total), nil
}

func share(percent int, total int64) int64 {
	return total/100*int64(percent) + total%100*int64(percent)/100
}

// An allowance is how much processor time an instance may have.
type allowance struct {
	share         int           // Percent, when processors are busy; 0 if it is the others.
	quota, period time.Duration // Run time in each period.
}

// parseAllowance reads "50%" or "25ms/100ms".
func parseAllowance(v string) (allowance, error) {
	if strings.HasSuffix(v, "%") {
		p, err := units.ParsePercent(v)
		if err != nil || p == 0 {
			return allowance{}, errors.Join(err, errNo)
		}
		return allowance{share: p}, nil
	}
	q, p, ok := strings.Cut(v, "/")
	quota, ok1 := milliseconds(q)
	period, ok2 := milliseconds(p)
	// The kernel takes periods from 1 ms to 1 s, and quotas from 1 ms.
	if !ok || !ok1 || !ok2 || period > time.Second {
		return allowance{}, errNo
	}
	return allowance{quota: quota, period: period}, nil
}

func milliseconds(v string) (time.Duration, bool) {
	digits, ok := strings.CutSuffix(v, "ms")
	n, err := strconv.ParseUint(digits, 10, 31)
	return time.Duration(n) * time.Millisecond, ok && err == nil && n > 0
}

// parseSwap reads true, false or a size.
func parseSwap(v string) (allow bool, size int64, err error) {
	if b, err := ParseBool(v); err == nil {
		return b, 0, nil
	}
	size, err = units.ParseBytes(v)
	return true, size, err
}

// parseRlimit reads "soft:hard" or one value for both, each a number or
// unlimited, and returns it as "soft:hard".
func parseRlimit(v string) (string, error) {
	soft, hard, two := strings.Cut(v, ":")
	if !two {
		hard = soft
	}
	s, err := rlimit(soft)
	if err != nil {
		return "", err
	}
	h, err := rlimit(hard)
	if err != nil {
		return "", err
	}
	if s > h {
		return "", errs.Invalidf("the soft limit %s is above the hard limit %s", soft, hard)
	}
	return soft + ":" + hard, nil
}

func rlimit(v string) (uint64, error) {
	if v == "unlimited" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0, errNo
	}
	return n, nil
}

func checkRlimit(v string) error {
	_, err := parseRlimit(v)
	return err
}

func checkRawIdmap(v string) error {
	_, err := idmap.ParseRaw(v)
	return err
}

// refusedLXC are the settings of liblxc that belong to the daemon, each with all
// below it: without them it does not find, watch and end what it starts.
var refusedLXC = [][2]string{
	{"lxc.arch", "the instance's architecture says it"},
	{"lxc.cgroup.dir", "the daemon makes the cgroup"},
	{"lxc.cgroup.relative", "the daemon makes the cgroup"},
	{"lxc.console", "the daemon keeps the console"},
	{"lxc.environment", "set environment.* instead"},
	{"lxc.ephemeral", "the daemon removes ephemeral instances"},
	{"lxc.execute", "the container runs init"},
	{"lxc.group", "the daemon decides what starts"},
	{"lxc.hook.post-stop", "the daemon cleans up"},
	{"lxc.hook.version", "the daemon's own hooks need theirs"},
	{"lxc.id_map", "set raw.idmap or security.idmap.* instead"},
	{"lxc.idmap", "set raw.idmap or security.idmap.* instead"},
	{"lxc.include", "write the lines themselves"},
	{"lxc.init", "the container runs its own init"},
	{"lxc.log", "the daemon keeps the log"},
	{"lxc.logfile", "the daemon keeps the log"},
	{"lxc.loglevel", "the daemon keeps the log"},
	{"lxc.monitor", "the daemon watches the container"},
	{"lxc.namespace", "the container has all namespaces"},
	{"lxc.net", "add a nic device instead"},
	{"lxc.network", "add a nic device instead"},
	{"lxc.prlimit", "set limits.kernel.* instead"},
	{"lxc.pty", "the daemon keeps the terminals"},
	{"lxc.rebootsignal", "the daemon knows the init's signals"},
	{"lxc.rootfs", "the daemon mounts the root"},
	{"lxc.seccomp", "set raw.seccomp or security.syscalls.* instead"},
	{"lxc.signal.stop", "an instance is killed by SIGKILL"},
	{"lxc.start", "the daemon decides what starts"},
	{"lxc.sysctl", "set linux.sysctl.* instead"},
	{"lxc.syslog", "the daemon keeps the log"},
	{"lxc.tty", "the daemon keeps the terminals"},
	{"lxc.uts", "rename the instance instead"},
}

func checkRawLXC(v string) error {
	if strings.ContainsAny(v, "\r\x00") {
		return errs.Invalidf("it has a carriage return or a NUL byte")
	}
	for i, line := range strings.Split(v, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if key == "lxc.signal.halt" || key == "lxc.signal.reboot" {
			if _, err := units.ParseSignal(strings.TrimSpace(value)); err != nil {
				return errs.Invalidf("line %d: %s: %w", i+1, key, err)
			}
		}
		if !ok || !strings.HasPrefix(key, "lxc.") {
			return errs.Invalidf(`line %d: %s is not a setting, want lines such as "lxc.cap.drop = sys_time"`, i+1, quote(line))
		}
		for _, r := range refusedLXC {
			if key == r[0] || strings.HasPrefix(key, r[0]+".") {
				return errs.Invalidf("line %d: %s cannot be set here: %s", i+1, quote(key), r[1])
			}
		}
	}
	return nil
}
