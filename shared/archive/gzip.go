package archive

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipBlock is how much of a tar each member of a gzip that is written in
// parallel holds. What the members lose by not knowing of each other is less
// than a hundredth.
const gzipBlock = 1 << 20

// A parallelGzip compresses on all cores. A gzip can have several members,
// one after the other, so each block becomes one.
type parallelGzip struct {
	w     io.Writer
	level int
	block *bytes.Buffer
	queue chan chan member // In the order of the blocks; its length bounds what is held.
	done  chan error

	mu     sync.Mutex // Guards failed.
	failed error      // Why nothing more is written.
}

// A member is a block that is compressed.
type member struct {
	data *bytes.Buffer
	err  error
}

func newParallelGzip(w io.Writer, level int) (io.WriteCloser, error) {
	if _, err := gzip.NewWriterLevel(io.Discard, level); err != nil {
		return nil, err
	}
	g := &parallelGzip{w: w, level: level, block: &bytes.Buffer{}, queue: make(chan chan member, runtime.GOMAXPROCS(0)), done: make(chan error, 1)}
	go func() { g.done <- g.drain() }()
	return g, nil
}

// drain writes the members in order.
func (g *parallelGzip) drain() error {
	var err error
	for next := range g.queue {
		m := <-next
		if err == nil {
			err = m.err
		}
		if err == nil {
			_, err = g.w.Write(m.data.Bytes())
		}
		if err != nil {
			g.fail(err)
		}
	}
	return err
}

func (g *parallelGzip) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = err
}

func (g *parallelGzip) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

func (g *parallelGzip) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), gzipBlock-g.block.Len())]
		g.block.Write(part)
		p = p[len(part):]
		if g.block.Len() == gzipBlock {
			g.flush()
		}
	}
	return n, g.err()
}

// flush has the block compressed.
func (g *parallelGzip) flush() {
	block, next := g.block, make(chan member, 1)
	g.block = &bytes.Buffer{}
	g.queue <- next
	go func() {
		out := &bytes.Buffer{}
		z, err := gzip.NewWriterLevel(out, g.level)
		if err == nil {
			_, err = z.Write(block.Bytes())
			err = errors.Join(err, z.Close())
		}
		next <- member{out, err}
	}()
}

// Close writes what remains.
func (g *parallelGzip) Close() error {
	g.flush() // A gzip has one member at least.
	close(g.queue)
	return <-g.done
}
