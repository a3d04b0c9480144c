package network

import (
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var allocationColumns = []output.Column[api.NetworkAllocation]{
	{Key: 'u', Name: "USED BY", Value: func(a api.NetworkAllocation) string { return a.UsedBy }},
	{Key: 'a', Name: "ADDRESS", Value: func(a api.NetworkAllocation) string { return a.Address }},
	{Key: 't', Name: "TYPE", Value: func(a api.NetworkAllocation) string { return a.Type }},
	{Key: 'n', Name: "NAT", Value: func(a api.NetworkAllocation) string { return kit.YesNo(a.NAT) }},
	{Key: 'm', Name: "MAC ADDRESS", Value: func(a api.NetworkAllocation) string { return a.Hwaddr }},
	{Key: 'e', Name: "PROJECT", Value: func(a api.NetworkAllocation) string { return kit.ProjectOf(a.UsedBy) }},
	{Key: 'N', Name: "NETWORK", Value: func(a api.NetworkAllocation) string { return a.Network }},
}

func newAllocations(e *env) *cobra.Command {
	cmd := kit.ListCommand(e.Env, kit.Lister[api.NetworkAllocation]{
		What: "the addresses that networks and those on them have", Columns: allocationColumns, Usual: "uatnm", Example: "  cuib network list-allocations",
		Read: (*client.Client).NetworkAllocations,
	})
	cmd.Use, cmd.Aliases = "list-allocations", nil
	return cmd
}
