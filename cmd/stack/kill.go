package main

import (
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (c *cli) killCommand() *cobra.Command {
	var signal string
	var removeOrphans bool
	cmd := c.opCommand("kill", "kill [SERVICE...]", "Send a signal to services' containers",
		func(_ *cobra.Command, request *api.OpRequest) error {
			request.Signal, request.RemoveOrphans = signal, removeOrphans
			return nil
		})
	cmd.Flags().StringVarP(&signal, "signal", "s", "SIGKILL", "Signal to send")
	cmd.Flags().BoolVar(&removeOrphans, "remove-orphans", false, "Remove containers of services that the stack file has no more")
	return cmd
}
