package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (c *cli) createCommand() *cobra.Command {
	f := upFlags{detach: true, command: "create"}
	cmd := &cobra.Command{
		Use:               "create [SERVICE...]",
		Short:             "Create containers and don't start them",
		ValidArgsFunction: c.completeServices,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			f.noStart = true
			return f.check(cmd)
		},
		RunE: c.verb(func(ctx context.Context, services []string) error { return c.up(ctx, f, services) }),
	}
	f.define(cmd)
	return cmd
}
