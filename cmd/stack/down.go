package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (c *cli) downCommand() *cobra.Command {
	var volumes, removeOrphans bool
	var images string
	cmd := c.opCommand("down", "down [SERVICE...]", "Stop and remove containers and networks",
		func(cmd *cobra.Command, request *api.OpRequest) error {
			if images != "" && images != "all" && images != "local" {
				return fmt.Errorf("--rmi %q: use all or local", images)
			}
			if !cmd.Flags().Changed("remove-orphans") {
				removeOrphans = switchedOn("COMPOSE_REMOVE_ORPHANS")
			}
			request.Volumes, request.RemoveOrphans, request.Images = volumes, removeOrphans, images
			return timeoutOf(cmd, request)
		})
	timeoutFlag(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&volumes, "volumes", "v", false, "Delete the volumes that the stack file declares, and anonymous ones, with their data")
	flags.BoolVar(&removeOrphans, "remove-orphans", false, "Remove containers of services that the stack file has no more")
	flags.StringVar(&images, "rmi", "", "Remove images, too: all, or local (those without a tag of their own)")
	return cmd
}
