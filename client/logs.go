package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// ConsoleLog says how much of the log of a console is wanted.
type ConsoleLog struct {
	Lines  int  // Only the last ones, where the daemon has the extension cuib_console_follow; 0 for all.
	Follow bool // With what is written from now on, until the instance stops; likewise.
}

// ConsoleLog returns what the instance wrote to its console. The caller
// closes it.
func (c *Client) ConsoleLog(ctx context.Context, instance string, o ConsoleLog) (io.ReadCloser, error) {
	q := url.Values{}
	if o.Lines > 0 {
		q.Set("lines", strconv.Itoa(o.Lines))
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	p := path("instances", instance, "console")
	if len(q) > 0 {
		p += "?" + q.Encode()
	}
	return c.download(ctx, p)
}

// ClearConsoleLog empties the console's log.
func (c *Client) ClearConsoleLog(ctx context.Context, instance string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("instances", instance, "console")})
}

// Logs returns the names of an instance's log files.
func (c *Client) Logs(ctx context.Context, instance string) ([]string, error) {
	return c.names(ctx, path("instances", instance, "logs"))
}

// outputDir is where the recorded output of programs is among the logs.
const outputDir = "exec-output"

// Outputs returns the names of the log files that have the recorded output of
// programs.
func (c *Client) Outputs(ctx context.Context, instance string) ([]string, error) {
	all, err := c.names(ctx, path("instances", instance, "logs", outputDir))
	for i := range all {
		all[i] = outputDir + "/" + all[i]
	}
	return all, err
}

func logPath(instance, file string) string {
	if recorded, ok := strings.CutPrefix(file, outputDir+"/"); ok {
		return path("instances", instance, "logs", outputDir, recorded)
	}
	return path("instances", instance, "logs", file)
}

// Log returns a log file of an instance. The caller closes it.
func (c *Client) Log(ctx context.Context, instance, file string) (io.ReadCloser, error) {
	return c.download(ctx, logPath(instance, file))
}

// DeleteLog deletes a log file of an instance that nothing writes to any more.
func (c *Client) DeleteLog(ctx context.Context, instance, file string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: logPath(instance, file)})
}

// Recorded is what a program left that ran without a client.
type Recorded struct {
	Status         int
	Stdout, Stderr string // Names of log files.
}

// Record runs a program in an instance, and lets the daemon keep what it
// writes. Its standard input is empty.
func (c *Client) Record(ctx context.Context, instance string, req api.InstanceExecPost) (*Operation, error) {
	req.RecordOutput, req.Interactive, req.WaitForWS = true, false, false
	return c.start(ctx, call{method: http.MethodPost, path: path("instances", instance, "exec"), body: req})
}

// Recorded returns what the program of an operation that [Client.Record]
// began, and that has ended, has left.
func (o *Operation) Recorded(instance string) (Recorded, error) {
	status, ok := o.Metadata["return"].(float64)
	files, ok2 := o.Metadata["output"].(map[string]any)
	if !ok || !ok2 {
		return Recorded{}, errs.Newf(errs.Internal, "the daemon gave no exit status or no output")
	}
	name := func(fd string) string {
		u, _ := files[fd].(string)
		return lastElement(path("instances", instance, "logs"), u)
	}
	return Recorded{int(status), name("1"), name("2")}, nil
}
