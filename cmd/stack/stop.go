package main

import "github.com/spf13/cobra"

func (c *cli) stopCommand() *cobra.Command {
	cmd := c.opCommand("stop", "stop [SERVICE...]", "Stop services", timeoutOf)
	timeoutFlag(cmd)
	return cmd
}
