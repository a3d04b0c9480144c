package configure

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// questions are what the user is asked, one after the other.
type questions struct {
	in  *bufio.Reader
	out io.Writer
	err error // Why there are no more answers.
}

// ask returns the answer, or what is usual if that is empty. It asks again
// while check has something against the answer.
func (q *questions) ask(text, usual string, check func(answer string) error) string {
	for q.err == nil {
		fmt.Fprintf(q.out, "%s [%s]: ", text, usual)
		var line string
		line, q.err = q.in.ReadString('\n')
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		err := check(line)
		if err == nil {
			return line
		}
		fmt.Fprintf(q.out, "%v\n", err)
	}
	return usual
}

// ask lets the user change a setup.
func (e *env) ask(s setup) (setup, error) {
	q := questions{in: bufio.NewReader(e.In), out: e.Err}
	s.pool = q.ask("Name of the storage pool", s.pool, anything)
	s.driver = q.ask("Its driver ("+strings.Join(kit.Drivers, ", ")+")", s.driver, aDriver)
	if s.driver == "btrfs" {
		s.device = q.ask("Block device for it (none for a file)", "none", anything)
		if s.device == "none" {
			s.device = ""
			s.size = q.ask("Size of the file", "30GiB", aSize)
		}
	}
	s.network = q.ask("Name of the network (none for no network)", s.network, anything)
	if s.network == "none" {
		s.network = ""
	} else {
		s.ipv4 = q.ask("Its IPv4 address with prefix length (auto, none)", s.ipv4, anAddress("10.1.2.1/24", netip.Addr.Is4))
		s.ipv6 = q.ask("Its IPv6 address with prefix length (auto, none)", s.ipv6, anAddress("fd42:1::1/64", netip.Addr.Is6))
	}
	if q.err != nil {
		return s, errs.Newf(errs.Canceled, "nothing done: no more answers: %w", q.err)
	}
	return s, nil
}

// anything leaves the check to the daemon.
func anything(string) error { return nil }

func aDriver(answer string) error {
	if !slices.Contains(kit.Drivers, answer) {
		return errs.Invalidf("%q is none of %s", answer, strings.Join(kit.Drivers, ", "))
	}
	return nil
}

func aSize(answer string) error {
	_, err := units.ParseBytes(answer)
	return err
}

// anAddress checks addresses of a family, of which example is one.
func anAddress(example string, family func(netip.Addr) bool) func(string) error {
	return func(answer string) error {
		p, err := netip.ParsePrefix(answer)
		if answer == "auto" || answer == "none" || err == nil && family(p.Addr()) {
			return nil
		}
		return errs.Invalidf("%q is not auto, none or an address such as %s", answer, example)
	}
}
