// Package tests runs the scripts in testdata/script, and programs beside
// them, against real binaries: the daemon, its helper, our client, and the
// unmodified clients of Incus and LXD. It imports nothing of the project: what
// it knows is what users know.
package tests

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the scripts' golden files")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runMain(m))
}

// TestScripts runs each script on a daemon of its own, in a network namespace
// of its own. The first line of a script says what it shows.
func TestScripts(t *testing.T) {
	requireKernel(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			h, err := newHost(e.WorkDir)
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := h.close(); err != nil {
					e.T().Fatal(err)
				}
			})
			e.Values[hostKey{}] = h
			for k, v := range h.env() {
				e.Setenv(k, v)
			}
			data, err := filepath.Abs("testdata")
			if err != nil {
				return err
			}
			e.Setenv("TESTDATA", data)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			return os.MkdirAll(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": cmdDaemon,
			"host":   cmdHost,
			"image":  cmdImage,
			"retry":  cmdRetry,
			"tree":   cmdTree,
		},
	})
}
