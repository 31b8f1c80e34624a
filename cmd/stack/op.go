package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

// opCommand is a verb on what runs: down, stop, start and the like. Prepare completes the request by the verb's flags.
func (c *cli) opCommand(op, use, short string, prepare func(cmd *cobra.Command, request *api.OpRequest) error) *cobra.Command {
	return &cobra.Command{
		Use:               use,
		Short:             short,
		ValidArgsFunction: c.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.verb(func(ctx context.Context, services []string) error {
				request := api.OpRequest{Services: services}
				if prepare != nil {
					if err := prepare(cmd, &request); err != nil {
						return err
					}
				}
				return c.op(ctx, op, request)
			})(cmd, args)
		},
	}
}

// op runs an operation on the stack that the command line is about, or with --dry-run shows what it would do.
func (c *cli) op(ctx context.Context, op string, request api.OpRequest) error {
	name, stack, err := c.named(ctx, request.Services)
	if err != nil {
		return err
	}
	request.Stack = stack
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.dryRun {
		plan, err := d.PlanOp(ctx, op, name, request)
		if err != nil {
			return err
		}
		return c.printPlan(plan)
	}
	progress := c.progress(op)
	defer progress.Close()
	_, err = d.Op(ctx, op, name, request, progress.Event)
	return err
}

// timeoutFlag adds -t to a command and returns what reads it.
func timeoutFlag(cmd *cobra.Command) {
	cmd.Flags().IntP("timeout", "t", 0, "Seconds that a container has to stop (default: what its stop_grace_period says)")
}

func timeoutOf(cmd *cobra.Command, request *api.OpRequest) error {
	n, err := cmd.Flags().GetInt("timeout")
	request.Timeout = seconds(n, cmd.Flags().Changed("timeout"))
	return err
}
