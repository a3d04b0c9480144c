package dnsmasq

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
)

// TestLeasesGo has the file of leases go at any moment while it is read.
func TestLeasesGo(t *testing.T) {
	cfg := networks.Config{Dir: t.TempDir()}
	path := filepath.Join(cfg.Dir, leaseFile)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := os.WriteFile(path, []byte("1 10:66:6a:00:00:01 10.0.0.2 c1 *\n"), 0o600); err != nil {
				t.Error(err)
			}
			time.Sleep(settle)
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	for range 100 {
		if _, err := readLeases(cfg); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}
