package instances

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/uevents"
)

// MaxRecording is how much of a program's output is kept.
const MaxRecording = maxRecording

// Record records what a program that ends with done writes to from.
func Record(ctx context.Context, done <-chan struct{}, from, to *os.File) (status int, err error) {
	return record(ctx, writer{done}, stdio{out: from}, stdio{out: to})
}

type writer struct{ done <-chan struct{} }

func (writer) Signal(unix.Signal) error { return nil }
func (writer) Resize(int, int) error    { return nil }

func (w writer) Wait(context.Context) (int, error) {
	<-w.done
	return 0, nil
}

// Recorded is a file with what a program wrote.
type Recorded = recorded

// NewRecorded returns one that was written at a time.
func NewRecorded(name string, size int64, written time.Time) Recorded {
	return recorded{name, size, written}
}

// Surplus is what of them goes.
var Surplus = surplus

// HearBy replaces how the service begins to listen to what the kernel tells of
// devices. It is called before Hotplug.
func (s *Service) HearBy(fn func() (*uevents.Listener, error)) { s.plugs.hear = fn }
