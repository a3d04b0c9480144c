//go:build crashtest

// Package crash lets a test end the daemon between any two steps of its work.
package crash

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fileEnv names the variable with the path of a file. Its first line has the
// number of points from now to the one at which the process is to die; the
// process removes it when it has read it. Before it dies it writes the name of
// the point to that path with ".at" behind.
//
// If there is a second line, it is a regular expression, and only points whose
// names match it are counted, each for the first time that the same calls lead
// there: a loop that makes the same steps again and again has them once.
const fileEnv = "CUIB_CRASH_FILE"

// onlyEnv names the variable with a regular expression: points whose names do
// not match it are none.
const onlyEnv = "CUIB_CRASH_ONLY"

var only = regexp.MustCompile(os.Getenv(onlyEnv))

// again is which passage of [Within] is a point besides the first.
const again = 4

// moment is how long after [During] the process dies: a program has begun its
// work then, and one that has much to do is not at its end.
const moment = 200 * time.Millisecond

// armed is what the file said.
type armed struct {
	left   int            // Points until death; 0 for none.
	once   *regexp.Regexp // Nil if all points are counted each time.
	seen   map[string]bool
	passed map[string]int // How often each [Within] was.
}

var (
	mu  sync.Mutex // Guards now.
	now armed
)

// Point is a place between two steps, where a daemon under test can be killed.
func Point(what string, of ...string) {
	if name := join(what, of); enabled(name) && now.count(name) {
		die(name)
	}
}

// Within is a place that is passed again and again, such as in a stream: a
// point when it is passed for the first time, and once more later.
func Within(what string) {
	if enabled(what) && now.passes(what) {
		die(what)
	}
}

// During is a point a moment after it is passed, while a program runs.
func During(what string, of ...string) {
	if name := join(what, of); enabled(name) && now.count(name) {
		go func() {
			time.Sleep(moment)
			die(name)
		}()
	}
}

func join(what string, of []string) string { return strings.Join(append([]string{what}, of...), " ") }

func enabled(name string) bool { return os.Getenv(fileEnv) != "" && only.MatchString(name) }

// read reads the file, if there is one. The caller holds mu.
func (a *armed) read() {
	text, err := os.ReadFile(os.Getenv(fileEnv))
	if err != nil {
		return
	}
	first, second, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	n, err := strconv.Atoi(first)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", os.Getenv(fileEnv), err))
	}
	*a = armed{left: n, seen: map[string]bool{}, passed: map[string]int{}}
	if second != "" {
		a.once = regexp.MustCompile(second)
	}
	_ = os.Remove(os.Getenv(fileEnv))
}

// count reports whether a point is the one to die at.
func (a *armed) count(name string) bool {
	mu.Lock()
	defer mu.Unlock()
	a.read()
	if a.left == 0 {
		return false
	}
	if a.once != nil {
		at := calls()
		if !a.once.MatchString(name) || a.seen[at] {
			return false
		}
		a.seen[at] = true
	}
	a.left--
	return a.left == 0
}

// passes is count for a place that is passed again and again.
func (a *armed) passes(name string) bool {
	mu.Lock()
	defer mu.Unlock()
	a.read()
	if a.left == 0 || a.once == nil || !a.once.MatchString(name) {
		return false
	}
	a.passed[name]++
	if n := a.passed[name]; n != 1 && n != again {
		return false
	}
	a.left--
	return a.left == 0
}

// calls identifies the calls that led to a point.
func calls() string {
	pcs := make([]uintptr, 100)
	return fmt.Sprint(pcs[:runtime.Callers(3, pcs)])
}

func die(name string) {
	_ = os.WriteFile(os.Getenv(fileEnv)+".at", []byte(name), 0o600)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // It comes in a moment.
}
