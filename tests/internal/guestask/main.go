// Command guestask asks the guest API from within an instance:
//
//	guestask [-s SOCKET] METHOD PATH [BODY]   prints the status and the answer
//	guestask [-s SOCKET] follow PATH COUNT    prints so many lines of the answer
//	guestask [-s SOCKET] flood SECONDS        takes, holds and drops connections
//	guestask [-s SOCKET] hold SECONDS         keeps a connection that says nothing
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	socket := flag.String("s", "/dev/incus/sock", "where to ask")
	flag.Parse()
	if flag.NArg() < 2 {
		log.Fatal("see the source for how to use it")
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	var err error
	switch flag.Arg(0) {
	case "follow":
		err = follow(client, flag.Arg(1), flag.Arg(2))
	case "flood":
		err = during(flag.Arg(1), func(ctx context.Context) { flood(ctx, dial) })
	case "hold":
		err = hold(dial, flag.Arg(1))
	default:
		err = ask(client, flag.Arg(0), flag.Arg(1), flag.Arg(2))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ask(c *http.Client, method, path, body string) error {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://lxd"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(os.Stdout, resp.StatusCode)
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// follow says on stderr when it listens.
func follow(c *http.Client, path, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://lxd"+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(os.Stderr, "listening")
	lines := bufio.NewScanner(resp.Body)
	for range n {
		if !lines.Scan() {
			return fmt.Errorf("the answer ends: %w", lines.Err())
		}
		fmt.Fprintln(os.Stdout, lines.Text())
	}
	return nil
}

func during(seconds string, fn func(ctx context.Context)) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
	defer cancel()
	for range 32 {
		go fn(ctx)
	}
	<-ctx.Done()
	return nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func flood(ctx context.Context, dial dialer) {
	for ctx.Err() == nil {
		c, err := dial(ctx, "", "")
		if err != nil {
			continue
		}
		fmt.Fprint(c, "GET /1.0/config HTTP/1.1\r\nHost: lxd\r\n\r\nPATCH /1.0 HTTP/1.1\r\nHost: lxd\r\nContent-Length: 100\r\n\r\n{")
		_ = c.Close() // The daemon may have been faster.
	}
}

// hold waits for the daemon to end a connection that says nothing.
func hold(dial dialer, seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	c, err := dial(context.Background(), "", "")
	if err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Duration(n) * time.Second)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}
