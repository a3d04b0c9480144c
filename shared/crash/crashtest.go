//go:build crashtest

// Package crash lets a test end the daemon between any two steps of its work.
package crash

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// fileEnv names the variable with the path of a file. It has the number of
// points from now to the one at which the process is to die; the process
// removes it when it has read it. Before it dies it writes the name of the
// point to that path with ".at" behind.
const fileEnv = "CUIB_CRASH_FILE"

// onlyEnv names the variable with a regular expression: points whose names do
// not match it are none.
const onlyEnv = "CUIB_CRASH_ONLY"

var only = regexp.MustCompile(os.Getenv(onlyEnv))

var (
	mu   sync.Mutex
	left int // Points until death; 0 for none.
)

// Point is a place between two steps, where a daemon under test can be killed.
func Point(name string) {
	path := os.Getenv(fileEnv)
	if path == "" || !only.MatchString(name) {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if text, err := os.ReadFile(path); err == nil {
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			panic(fmt.Sprintf("%s: %v", path, err))
		}
		left = n
		_ = os.Remove(path)
	}
	if left == 0 {
		return
	}
	if left--; left == 0 {
		_ = os.WriteFile(path+".at", []byte(name), 0o600)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // It comes in a moment.
	}
}
