package main

import (
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (c *cli) restartCommand() *cobra.Command {
	var noDeps bool
	cmd := c.opCommand("restart", "restart [SERVICE...]", "Restart services",
		func(cmd *cobra.Command, request *api.OpRequest) error {
			request.NoDeps = noDeps
			return timeoutOf(cmd, request)
		})
	timeoutFlag(cmd)
	cmd.Flags().BoolVar(&noDeps, "no-deps", false, "Don't restart services that depend on them")
	return cmd
}
