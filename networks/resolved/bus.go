package resolved

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// The names of org.freedesktop.resolve1(5).
const (
	service = "org.freedesktop.resolve1"
	object  = "/org/freedesktop/resolve1"
	manager = "org.freedesktop.resolve1.Manager."
)

// patience is how long a call may take.
const patience = 10 * time.Second

// A bus is a connection to D-Bus.
type bus struct{ conn *dbus.Conn }

// resolved returns who is systemd-resolved now. It is an empty string if nobody
// is, or one that sees other interfaces.
func (b bus) resolved(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var owner string
	err := b.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", dbus.FlagNoAutoStart, service).Store(&owner)
	if isError(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var pid uint32
	err = b.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, owner).Store(&pid)
	if isError(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
		return "", nil // It ended meanwhile.
	}
	if err != nil {
		return "", err
	}
	same, err := sameNet(pid)
	if !same {
		owner = ""
	}
	return owner, err
}

// server is the address of a name server, as resolved has it.
type server struct {
	Family  int32
	Address []byte
}

// domain is a domain, as resolved has it.
type domain struct {
	Name  string
	Route bool // Only for what is asked for with it, and not to search in.
}

// set tells of a link. Only what is in its domains is asked of its servers:
// they ask the host for all else. What they know is not signed, and they speak
// no TLS, whatever the host wants of others.
func (b bus) set(ctx context.Context, index int, l Link) error {
	servers, domains := []server{}, []domain{}
	for _, a := range l.Servers {
		family := int32(unix.AF_INET6)
		if a.Is4() {
			family = unix.AF_INET
		}
		servers = append(servers, server{family, a.AsSlice()})
	}
	for _, d := range l.Domains {
		domains = append(domains, domain{d, true})
	}
	i := int32(index)
	for _, c := range []struct {
		method string
		arg    any
		isNew  bool // Older ones do not have it.
	}{
		{"SetLinkDefaultRoute", false, true},
		{"SetLinkDomains", domains, false},
		{"SetLinkDNSSEC", "no", true},
		{"SetLinkDNSOverTLS", "no", true},
		{"SetLinkDNS", servers, false},
	} {
		err := b.call(ctx, c.method, i, c.arg)
		if c.isNew && isError(err, "org.freedesktop.DBus.Error.UnknownMethod") {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// revert makes resolved forget what it was told of a link.
func (b bus) revert(ctx context.Context, index int) error {
	return b.call(ctx, "RevertLink", int32(index))
}

func (b bus) call(ctx context.Context, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.conn.Object(service, object).CallWithContext(ctx, manager+method, dbus.FlagNoAutoStart, args...).Err; err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// isError reports whether D-Bus says that an error has the name.
func isError(err error, name string) bool {
	derr, ok := errors.AsType[dbus.Error](err)
	return ok && derr.Name == name
}
