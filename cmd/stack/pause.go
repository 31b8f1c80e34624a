package main

import "github.com/spf13/cobra"

func (c *cli) pauseCommand() *cobra.Command {
	return c.opCommand("pause", "pause [SERVICE...]", "Freeze services", nil)
}

func (c *cli) unpauseCommand() *cobra.Command {
	return c.opCommand("unpause", "unpause [SERVICE...]", "Let frozen services go on", nil)
}
