package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/cuib/cuib/shared/errs"
)

// SFTP opens a connection that speaks the SFTP protocol on the files of an
// instance, which may be stopped. The caller closes it.
func (c *Client) SFTP(ctx context.Context, instance string) (net.Conn, error) {
	return c.sftp(ctx, path("instances", instance, "sftp"), instance)
}

// sftp opens a connection at a path, for what has the given name.
func (c *Client) sftp(ctx context.Context, p, name string) (net.Conn, error) {
	p = c.target(p)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://cuib"+p, nil)
	if err != nil {
		return nil, errs.Invalidf("%w", err)
	}
	req.Header = http.Header{"User-Agent": {"cuib"}, "Connection": {"Upgrade"}, "Upgrade": {"sftp"}}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	up, err := upgrade(conn, req)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("files of %q: %w", name, transportError(ctx, err))
	}
	if c.Trace != nil {
		c.Trace(http.MethodGet, p, http.StatusSwitchingProtocols, 0)
	}
	return up, nil
}

// upgrade turns an HTTP connection into what the request asks for.
func upgrade(conn net.Conn, req *http.Request) (net.Conn, error) {
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return &bufferedConn{conn, r}, nil
	}
	defer resp.Body.Close()
	if _, err := open(resp); err != nil {
		return nil, err
	}
	return nil, errs.Newf(errs.Internal, "the daemon answered %s instead of a stream", resp.Status)
}

// A bufferedConn reads what was read ahead first.
type bufferedConn struct {
	net.Conn

	r io.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }
