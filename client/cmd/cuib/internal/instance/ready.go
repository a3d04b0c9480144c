package instance

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/cuib/cuib/client"
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
	var out bytes.Buffer
	_, err = e.Client().Exec(ctx, name, client.Exec{
		InstanceExecPost: api.InstanceExecPost{Command: []string{"sh", "-c", askInit}}, Stdout: &out,
	})
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Denied) {
		return false, err
	}
	return err == nil && slices.Contains(readyStates, strings.TrimSpace(out.String())), nil
}
