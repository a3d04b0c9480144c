package files

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cuib/cuib/shared/errs"
)

// A Listener lets programs that speak SSH reach files by SFTP. Each session has
// a connection to the daemon of its own.
type Listener struct {
	User, Password string // Empty for none: everybody who connects is let in.

	Open func(ctx context.Context) (net.Conn, error) // A connection that speaks SFTP.
	Warn func(format string, args ...any)
}

// handshakeTime is how long a client may take to log in.
const handshakeTime = time.Minute

// Password returns one that nobody guesses.
func Password() (string, error) {
	b := make([]byte, 12)
	_, err := rand.Read(b)
	return hex.EncodeToString(b), err
}

// Serve serves clients until ctx ends, with a host key that is new.
func (l Listener) Serve(ctx context.Context, on net.Listener) error {
	config, err := l.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = on.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := on.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		clients.Go(func() {
			if err := l.client(ctx, conn, config); err != nil && ctx.Err() == nil {
				l.Warn("%s: %v", conn.RemoteAddr(), err)
			}
		})
	}
}

func (l Listener) config() (*ssh.ServerConfig, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{NoClientAuth: l.Password == ""}
	if l.Password != "" {
		config.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			user := subtle.ConstantTimeCompare([]byte(c.User()), []byte(l.User))
			if user&subtle.ConstantTimeCompare(password, []byte(l.Password)) != 1 {
				return nil, errs.Newf(errs.Denied, "wrong user or password")
			}
			return &ssh.Permissions{}, nil
		}
	}
	config.AddHostKey(signer)
	return config, nil
}

// client serves one client, until it goes or ctx ends.
func (l Listener) client(ctx context.Context, conn net.Conn, config *ssh.ServerConfig) error {
	defer conn.Close() //nolint:errcheck // What was to be sent was sent.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer server.Close() //nolint:errcheck // As above.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for asked := range channels {
		if asked.ChannelType() != "session" {
			_ = asked.Reject(ssh.UnknownChannelType, "there is SFTP only") // The client may be gone.
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			return err
		}
		sessions.Go(func() { l.session(ctx, channel, requests) })
	}
	return nil
}

// session serves SFTP, when the client has asked for it.
func (l Listener) session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close() //nolint:errcheck // The client may be gone.
	for r := range requests {
		var subsystem struct{ Name string }
		ok := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &subsystem) == nil && subsystem.Name == "sftp"
		if r.WantReply {
			_ = r.Reply(ok, nil) // The client may be gone.
		}
		if !ok {
			continue
		}
		go ssh.DiscardRequests(requests)
		if err := l.carry(ctx, channel); err != nil && ctx.Err() == nil {
			l.Warn("%v", err)
		}
		return
	}
}

// carry carries the data between a client and the daemon.
func (l Listener) carry(ctx context.Context, channel ssh.Channel) error {
	files, err := l.Open(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = files.Close() })
	defer stop()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(files, channel)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(channel, files)
		ended <- err
	}()
	err = <-ended
	_, serr := channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
	_, _ = files.Close(), channel.Close() // So that the other way ends, too.
	other := <-ended
	if serr != nil || other != nil && err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // The client has gone.
	}
	return err
}
