package configure

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var operationColumns = []output.Column[api.Operation]{
	{Key: 'i', Name: "ID", Value: func(o api.Operation) string { return o.ID }},
	{Key: 't', Name: "TYPE", Value: func(o api.Operation) string { return o.Class }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(o api.Operation) string { return o.Description }},
	{Key: 's', Name: "STATE", Value: func(o api.Operation) string { return o.Status }},
	{Key: 'c', Name: "CANCELABLE", Value: func(o api.Operation) string { return kit.YesNo(o.MayCancel) }},
	{Key: 'C', Name: "CREATED", Value: func(o api.Operation) string { return kit.Date(o.CreatedAt) }},
	{Key: 'e', Name: "PROJECT", Value: operationProject},
	{Key: 'L', Name: "LOCATION", Value: func(o api.Operation) string { return o.Location }},
}

// operationProject is the project of what an operation is about.
func operationProject(o api.Operation) string {
	for _, kind := range kit.KeysOf(o.Resources) {
		for _, u := range o.Resources[kind] {
			return kit.ProjectOf(u)
		}
	}
	return ""
}

func newOperation(e *env) *cobra.Command {
	return kit.Group("operation", "See what the daemon does in the background", "  cuib operation list",
		newOperationDelete(e), newOperationList(e), newOperationShow(e))
}

func newOperationList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.Operation]{
		What: "operations", Columns: operationColumns, Usual: "itdscC", Example: "  cuib operation list --format json",
		Read: (*client.Client).Operations,
	})
}

func newOperationShow(e *env) *cobra.Command {
	return kit.ShowCommand(e.Env, kit.Use("OPERATION", "an operation", "  cuib operation show 0f5c2b1e-6a0c-4f0e-9d1c-1c2f3a4b5d6e"), kit.Operations,
		func(ctx context.Context, id string) (api.Operation, string, error) {
			op, err := e.Client().Operation(ctx, id)
			if err != nil {
				return api.Operation{}, "", err
			}
			return op.Operation, "", nil
		})
}

func newOperationDelete(e *env) *cobra.Command {
	cmd := e.DeleteCommand("Operation", kit.Use("OPERATION", "operations", "  cuib operation delete 0f5c2b1e-6a0c-4f0e-9d1c-1c2f3a4b5d6e"), kit.Operations,
		e.Client().CancelOperation)
	cmd.Short = "Cancel operations"
	return cmd
}
