package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (c *cli) startCommand() *cobra.Command {
	var wait bool
	var timeout int
	cmd := c.opCommand("start", "start [SERVICE...]", "Start services that are stopped",
		func(_ *cobra.Command, request *api.OpRequest) error {
			request.Wait, request.WaitTimeout = wait, time.Duration(timeout)*time.Second
			return nil
		})
	cmd.Flags().BoolVar(&wait, "wait", false, "Wait until services are running or healthy")
	cmd.Flags().IntVar(&timeout, "wait-timeout", 0, "Seconds to wait at most")
	return cmd
}
