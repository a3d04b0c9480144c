package ws

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	minBuffer = 16 << 10
	maxBuffer = 256 << 10
)

// receiveBuffers are kept for streams that receive something now; one that
// waits holds none.
var receiveBuffers = sync.Pool{New: func() any { return new([maxBuffer]byte) }}

// Send sends all that r holds, and then the end of the stream. Each read of r
// is a message of its own, so that nothing waits for more.
func (c *Conn) Send(r io.Reader) error {
	buf := make([]byte, minBuffer)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if werr := c.WriteBinary(buf[:n]); werr != nil {
				return fmt.Errorf("send: %w", werr)
			}
		}
		if errors.Is(err, io.EOF) {
			return c.SendEnd()
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if n == len(buf) && n < maxBuffer { // There is more than fits: make room.
			buf = make([]byte, 2*n)
		}
	}
}

// SendEnd sends the end of the stream.
func (c *Conn) SendEnd() error { return c.WriteText(nil) }

// Receive writes what the other end sends to w, until the end of the stream
// or the close of the connection. Each message arrives in one write if it is
// not large.
func (c *Conn) Receive(w io.Writer) error {
	for {
		text, r, err := c.next()
		if text || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := receive(w, r); err != nil {
			return err
		}
	}
}

// receive copies one message.
func receive(w io.Writer, r io.Reader) error {
	buf, ok := receiveBuffers.Get().(*[maxBuffer]byte)
	if !ok {
		buf = new([maxBuffer]byte)
	}
	defer receiveBuffers.Put(buf)
	for {
		n, err := fill(r, buf[:])
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return fmt.Errorf("receive: %w", werr)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// fill reads until buf is full or the message ends, with io.EOF.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}
