package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var operationColumns = []output.Column[api.Operation]{
	{Key: 'i', Name: "ID", Value: func(o api.Operation) string { return o.ID }},
	{Key: 't', Name: "TYPE", Value: func(o api.Operation) string { return o.Class }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(o api.Operation) string { return o.Description }},
	{Key: 's', Name: "STATE", Value: func(o api.Operation) string { return o.Status }},
	{Key: 'c', Name: "CANCELABLE", Value: func(o api.Operation) string { return yesNo(o.MayCancel) }},
	{Key: 'C', Name: "CREATED", Value: func(o api.Operation) string { return date(o.CreatedAt) }},
	{Key: 'L', Name: "LOCATION", Value: func(o api.Operation) string { return o.Location }},
}

func newOperation(e *env) *cobra.Command {
	return group("operation", "See what the daemon does in the background", "  cuib operation list",
		newOperationDelete(e), newOperationList(e), newOperationShow(e))
}

func newOperationList(e *env) *cobra.Command {
	return listCommand(e, lister[api.Operation]{
		what: "operations", columns: operationColumns, usual: "itdscC", example: "  cuib operation list --format json",
		read: e.client().Operations,
	})
}

func newOperationShow(e *env) *cobra.Command {
	return showCommand(e, use("OPERATION", "an operation", "  cuib operation show 0f5c2b1e-6a0c-4f0e-9d1c-1c2f3a4b5d6e"), operations,
		func(ctx context.Context, id string) (api.Operation, string, error) {
			op, err := e.client().Operation(ctx, id)
			if err != nil {
				return api.Operation{}, "", err
			}
			return op.Operation, "", nil
		})
}

func newOperationDelete(e *env) *cobra.Command {
	cmd := e.deleteCommand("Operation", use("OPERATION", "operations", "  cuib operation delete 0f5c2b1e-6a0c-4f0e-9d1c-1c2f3a4b5d6e"), operations,
		e.client().CancelOperation)
	cmd.Short = "Cancel operations"
	return cmd
}
