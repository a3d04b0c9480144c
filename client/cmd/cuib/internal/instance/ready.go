package instance

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// askInit prints the state of systemd, once it has started all. Before it
// takes part, and with another init, the program that is init decides.
const askInit = `if [ -d /run/systemd/system ]; then systemctl is-system-running --wait; exit; fi
case $(readlink -f /sbin/init) in */systemd) echo starting;; *) echo running;; esac`

// isReady asks an instance's systemd whether it has started all. An instance
// with another init is ready when it runs.
func (e *env) isReady(ctx context.Context, name string) (bool, error) {
	s, err := e.Client().InstanceState(ctx, name)
	if err != nil || s.StatusCode != api.Running && s.StatusCode != api.Ready {
		return false, err
	}
	if s.StatusCode == api.Ready {
		return true, nil
	}
	out, _, err := e.probe(ctx, name, askInit, "")
	return slices.Contains(readyStates, out), err
}

// askFailed prints the state of systemd, and the names of the units that have
// failed.
//
// Init is asked twice: a unit can fail between the first answer and the list.
const askFailed = `if [ ! -d /run/systemd/system ]; then
	case $(readlink -f /sbin/init) in */systemd) echo starting;; *) echo none;; esac
	exit
fi
systemctl is-system-running --wait
systemctl list-units --failed --plain --no-legend | cut -d " " -f 1`

// isHealthy tells whether an instance's systemd has started all. That a unit
// has failed is an error.
func (e *env) isHealthy(ctx context.Context, name string) (bool, error) {
	out, _, err := e.probe(ctx, name, askFailed, "")
	state, failed, _ := strings.Cut(out, "\n")
	switch {
	case err != nil:
		return false, err
	case state == "none":
		return false, errs.Invalidf("instance %q does not have systemd as its init: wait for ready", name)
	case slices.Contains(readyStates, state) && failed != "":
		return false, errs.Conflictf("units of instance %q have failed: %s", name, strings.ReplaceAll(failed, "\n", ", "))
	}
	return state == "running", nil
}

// probe runs a script in an instance and returns what it printed and its
// status. It is no error that the instance does not run, or cannot now.
func (e *env) probe(ctx context.Context, name, script, value string) (out string, status int, err error) {
	var b bytes.Buffer
	status, err = e.Client().Exec(ctx, name, client.Exec{
		InstanceExecPost: api.InstanceExecPost{Command: []string{"sh", "-c", script, "sh", value}}, Stdout: &b,
	})
	switch {
	case errs.Is(err, errs.NotFound), errs.Is(err, errs.Denied), errs.Is(err, errs.Unavailable):
		return "", -1, err
	case err != nil:
		return "", -1, nil //nolint:nilerr // As the comment says.
	}
	return output.Plain(strings.TrimSpace(b.String())), status, nil
}
