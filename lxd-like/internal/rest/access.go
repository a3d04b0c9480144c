package rest

import (
	"context"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

type peerKey struct{}

// ConnContext is for [http.Server]: it notes who is at the other end of a
// connection. Requests of connections that it has not seen are refused.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { // Without an answer cred stays nil.
		cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// peer returns who makes a request, or nil.
func peer(ctx context.Context) *unix.Ucred {
	cred, _ := ctx.Value(peerKey{}).(*unix.Ucred)
	return cred
}

// allowed refuses who may not make a request. Who can open the socket may do
// everything; a web page that talks to it through its user's browser may not.
func allowed(r *http.Request) error {
	if peer(r.Context()) == nil {
		return errs.Newf(errs.Denied, "not authorized")
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return errs.Newf(errs.Denied, "not authorized: requests from other sites are refused")
	}
	return nil
}

// userName returns the name of the user who makes a request.
func userName(ctx context.Context) string {
	cred := peer(ctx)
	if cred == nil {
		return ""
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return id
	}
	return u.Username
}
