package ws_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// serve runs handle for each websocket that the returned dialer opens.
func serve(tb testing.TB, handle func(*ws.Conn)) ws.Dialer {
	tb.Helper()
	socket := filepath.Join(tb.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(tb.Context(), "unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		c, err := ws.Upgrade(w, r)
		if err != nil {
			return
		}
		defer c.Close()
		handle(c)
	})
	mux.HandleFunc("/missing", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"type":"error","error_code":404,"error":"instance \"c1\" not found"}`)
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	tb.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	return ws.Dialer{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

func open(tb testing.TB, d ws.Dialer) *ws.Conn {
	tb.Helper()
	c, err := d.Open(tb.Context(), "/ws")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Abort)
	return c
}

// random returns a stream of n bytes that comes in pieces of any size.
func random(seed uint64, n int64) io.Reader {
	src := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(src.Uint32())
	}
	return io.LimitReader(&pieces{src: src, data: data}, n)
}

type pieces struct {
	src  *rand.Rand
	data []byte
	at   int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.src.IntN(4) == 0 {
		b = b[:1+p.src.IntN(min(len(b), 100))]
	}
	n := copy(b, p.data[p.at:])
	p.at = (p.at + n) % len(p.data)
	return n, nil
}

func TestStreamsArriveWholeBothWays(t *testing.T) {
	const size = 64 << 20
	got := sha256.New()
	d := serve(t, func(c *ws.Conn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Receive(got); err != nil {
				t.Error(err)
			}
		})
		if err := c.Send(random(2, size)); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})

	c := open(t, d)
	back := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Send(random(1, size)); err != nil {
			t.Error(err)
		}
	})
	if err := c.Receive(back); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, _, err := c.ReadMessage(); !errors.Is(err, io.EOF) { // The server is done, so got is whole.
		t.Errorf("after the end: %v", err)
	}
	for i, h := range []hash.Hash{got, back} {
		want := sha256.New()
		_, _ = io.Copy(want, random(uint64(i+1), size))
		if !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
			t.Errorf("direction %d: another hash", i)
		}
	}
}

func TestSendDoesNotWaitForMore(t *testing.T) {
	pr, pw := io.Pipe()
	d := serve(t, func(c *ws.Conn) { _ = c.Send(pr) })
	c := open(t, d)
	for _, want := range []string{"a", "", "bc"} {
		if want == "" {
			continue
		}
		_, _ = io.WriteString(pw, want)
		if text, got, err := c.ReadMessage(); text || string(got) != want || err != nil {
			t.Fatalf("got %t %q %v, want %q", text, got, err, want)
		}
	}
	_ = pw.Close()
	if text, got, err := c.ReadMessage(); !text || len(got) != 0 || err != nil {
		t.Fatalf("end of the stream: %t %q %v", text, got, err)
	}
}

func TestConnectionGoesOnAfterEndOfStream(t *testing.T) {
	done := make(chan string, 1)
	d := serve(t, func(c *ws.Conn) {
		var in bytes.Buffer
		_ = c.Receive(&in)
		_ = c.WriteJSON(map[string]int{"length": in.Len()})
		_, data, err := c.ReadMessage()
		if err != nil {
			t.Error(err)
		}
		done <- string(data)
	})
	c := open(t, d)
	if err := c.Send(strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	_, data, err := c.ReadMessage()
	var v struct{ Length int }
	if err != nil || json.Unmarshal(data, &v) != nil || v.Length != 5 {
		t.Fatalf("got %s, %v", data, err)
	}
	if err := c.WriteText([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "more" {
		t.Fatalf("got %q", got)
	}
}

func TestLossIsNotTheEnd(t *testing.T) {
	tests := map[string]struct {
		end  func(*ws.Conn)
		want error
	}{
		"closed":  {(*ws.Conn).Close, nil},
		"ended":   {func(c *ws.Conn) { _ = c.SendEnd() }, nil},
		"dropped": {(*ws.Conn).Abort, io.ErrUnexpectedEOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := serve(t, func(c *ws.Conn) {
				_ = c.WriteBinary([]byte("some"))
				tt.end(c)
			})
			var got bytes.Buffer
			if err := open(t, d).Receive(&got); !errors.Is(err, tt.want) || got.String() != "some" {
				t.Errorf("got %q, %v, want %v", got.String(), err, tt.want)
			}
		})
	}
}

func TestOpenReturnsTheServersError(t *testing.T) {
	d := serve(t, func(*ws.Conn) {})
	_, err := d.Open(t.Context(), "/missing")
	if !errs.Is(err, errs.NotFound) || err.Error() != `instance "c1" not found` {
		t.Errorf("got %v", err)
	}
	if _, err := d.Open(t.Context(), "/else"); err == nil || !strings.Contains(err.Error(), "/else") {
		t.Errorf("got %v", err)
	}
}

func TestManyWriters(t *testing.T) {
	d := serve(t, func(c *ws.Conn) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = c.WriteBinary(bytes.Repeat([]byte("x"), 1000)) })
		}
		wg.Wait()
	})
	var got bytes.Buffer
	if err := open(t, d).Receive(&got); err != nil || got.Len() != 20000 {
		t.Errorf("got %d bytes, %v", got.Len(), err)
	}
}

func BenchmarkStream(b *testing.B) {
	for name, toClient := range map[string]bool{"to client": true, "to server": false} {
		b.Run(name, func(b *testing.B) {
			const size = 1 << 30
			b.SetBytes(size)
			send := func(c *ws.Conn) {
				for range b.N {
					_ = c.Send(io.LimitReader(zero{}, size))
				}
			}
			receive := func(c *ws.Conn) {
				for range b.N {
					_ = c.Receive(io.Discard)
				}
			}
			server, client := receive, send
			if toClient {
				server, client = send, receive
			}
			done := make(chan bool)
			c := open(b, serve(b, func(c *ws.Conn) { server(c); close(done) }))
			client(c)
			<-done
		})
	}
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { return len(b), nil }
