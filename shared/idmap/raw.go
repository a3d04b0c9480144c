package idmap

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// Max is the highest id: the kernel keeps the one above it for "none".
const Max = 1<<32 - 2

// A Range is the ids [First, First+Size).
type Range struct{ First, Size int64 }

// String returns the range as "5" or "5-9".
func (r Range) String() string {
	if r.Size == 1 {
		return strconv.FormatInt(r.First, 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.end()-1)
}

func (r Range) end() int64 { return r.First + r.Size }

func (r Range) overlaps(o Range) bool { return r.First < o.end() && o.First < r.end() }

// ParseRaw reads the lines of raw.idmap: "both 1000 1000" or
// "uid 50-60 500-510", each a kind of ids (uid, gid, both), ids of the host,
// and as many ids inside.
func ParseRaw(text string) ([]Entry, error) {
	var all []Entry
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		e, err := parseRawLine(f)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func parseRawLine(f []string) (Entry, error) {
	if len(f) != 3 {
		return Entry{}, errs.Invalidf(`got %q, want three words such as "both 1000 1000"`, strings.Join(f, " "))
	}
	var e Entry
	switch f[0] {
	case "both":
		e.UID, e.GID = true, true
	case "uid":
		e.UID = true
	case "gid":
		e.GID = true
	default:
		return Entry{}, errs.Invalidf("got %q, want uid, gid or both", f[0])
	}
	host, err := parseRange(f[1])
	if err != nil {
		return Entry{}, err
	}
	inside, err := parseRange(f[2])
	if err != nil {
		return Entry{}, err
	}
	if host.Size != inside.Size {
		return Entry{}, errs.Invalidf("%s are %d ids of the host and %s are %d inside, want as many", f[1], host.Size, f[2], inside.Size)
	}
	if host.First == 0 { // To the kernel it stays the host's root, in whatever namespace.
		return Entry{}, errs.Invalidf("id 0 of the host cannot be given to an instance: it would be the host's root, set security.privileged for that")
	}
	e.Host, e.Inside, e.Size = host.First, inside.First, host.Size
	return e, nil
}

// parseRange reads an id, "5", or a range of them, "5-9".
func parseRange(s string) (Range, error) {
	from, to, isRange := strings.Cut(s, "-")
	first, ok := parseID(from)
	last := first
	if isRange && ok {
		last, ok = parseID(to)
	}
	if !ok || last < first {
		return Range{}, errs.Invalidf(`got %q, want an id such as "1000" or a range such as "1000-1009"`, s)
	}
	return Range{first, last - first + 1}, nil
}

func parseID(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n <= Max
}

// A SubID is a line of /etc/subuid or /etc/subgid.
type SubID struct {
	Owner string // A user's name or number.
	Range Range
}

// ReadSubIDs reads /etc/subuid or /etc/subgid. It skips lines that it does
// not understand, as the programs do that the files are for.
func ReadSubIDs(r io.Reader) ([]SubID, error) {
	var all []SubID
	for s := bufio.NewScanner(r); ; {
		if !s.Scan() {
			return all, s.Err()
		}
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) != 3 || f[0] == "" || strings.HasPrefix(f[0], "#") {
			continue
		}
		first, ok1 := parseID(f[1])
		size, ok2 := parseID(f[2])
		if ok1 && ok2 && size > 0 {
			all = append(all, SubID{f[0], Range{first, min(size, Max-first+1)}})
		}
	}
}

// ReadOwn reads a uid_map or gid_map of a process: the ids that it has, as
// they are to itself.
func ReadOwn(r io.Reader) ([]Range, error) {
	var all []Range
	for s := bufio.NewScanner(r); ; {
		if !s.Scan() {
			return all, s.Err()
		}
		f := strings.Fields(s.Text())
		if len(f) != 3 {
			continue
		}
		first, ok := parseID(f[0])
		size, err := strconv.ParseInt(f[2], 10, 64)
		if ok && err == nil && size > 0 {
			all = append(all, Range{first, min(size, Max-first+1)})
		}
	}
}
