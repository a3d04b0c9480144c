package configure

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

type queryOptions struct {
	method, data string
	raw, wait    bool
}

func newQuery(e *env) *cobra.Command {
	var o queryOptions
	cmd := &cobra.Command{
		Use: "query PATH", Short: "Send a request to the API",
		Long:    "Send a request to the API and print the metadata of the answer. With --data -\nthe data come from the standard input. The request is made in the current project,\nunless the path says \"project=\" or \"all-projects=\" itself.",
		Example: "  cuib query /1.0\n  cuib query -X POST -d '{\"name\": \"one\"}' --wait /1.0/instances/web/snapshots",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.query(cmd.Context(), o, strings.TrimPrefix(args[0], "local:"))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.method, "request", "X", "GET", "method")
	f.StringVarP(&o.data, "data", "d", "", "JSON to send")
	f.BoolVar(&o.raw, "raw", false, "print the answer as it came")
	f.BoolVar(&o.wait, "wait", false, "wait for the operation to end")
	return cmd
}

func (e *env) query(ctx context.Context, o queryOptions, path string) error {
	if !strings.HasPrefix(path, "/") {
		return errs.Invalidf("path %q does not begin with a slash", path)
	}
	q := client.Query{Method: strings.ToUpper(o.method), Path: path, Body: []byte(o.data)}
	if o.data == "-" {
		data, err := io.ReadAll(e.In)
		if err != nil {
			return err
		}
		q.Body = data
	}
	if len(q.Body) > 0 && !json.Valid(q.Body) {
		return errs.Invalidf("the data are not JSON")
	}
	answer, err := e.Client().Query(ctx, q)
	if o.raw && len(answer.Body) > 0 {
		_, werr := e.Out.Write(answer.Body)
		if err != nil {
			return kit.StatusError(1)
		}
		return werr
	}
	if err != nil {
		return err
	}
	return e.printAnswer(ctx, o, answer)
}

func (e *env) printAnswer(ctx context.Context, o queryOptions, answer client.Answer) error {
	metadata := answer.Metadata
	if o.wait && answer.Operation != nil {
		werr := e.Wait(ctx, answer.Operation, nil)
		if werr != nil {
			return werr
		}
		data, err := json.Marshal(answer.Operation.Operation)
		if err != nil {
			return err
		}
		metadata = data
	}
	if metadata == nil {
		_, err := e.Out.Write(answer.Body)
		return err
	}
	if bytes.Equal(metadata, []byte("null")) || bytes.Equal(metadata, []byte("{}")) {
		return nil
	}
	var out bytes.Buffer
	if err := json.Indent(&out, metadata, "", "\t"); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(e.Out)
	return err
}
