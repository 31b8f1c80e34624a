package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

func (c *cli) scaleCommand() *cobra.Command {
	var noDeps bool
	return withFlags(&cobra.Command{
		Use:               "scale SERVICE=NUM...",
		Short:             "Run another number of replicas",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, args []string) error {
			scale, err := parseScale(args)
			if err != nil {
				return err
			}
			f := upFlags{detach: true, command: "scale", convergeFlags: convergeFlags{scale: args, noDeps: noDeps, pull: "policy", noRecreate: true}}
			return c.up(ctx, f, slices.Sorted(maps.Keys(scale)))
		}),
	}, func(cmd *cobra.Command) {
		cmd.Flags().BoolVar(&noDeps, "no-deps", false, "Leave alone what the services depend on")
	})
}

// withFlags defines a command's flags where the command is made.
func withFlags(cmd *cobra.Command, define func(*cobra.Command)) *cobra.Command {
	define(cmd)
	return cmd
}
