package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/client"
)

func (c *cli) suspendCommand() *cobra.Command {
	return c.keepingCommand("suspend", "Have the daemon report drift of the stack and repair nothing", (*client.Client).Suspend)
}

func (c *cli) resumeCommand() *cobra.Command {
	return c.keepingCommand("resume", "Have the daemon repair drift of the stack again", (*client.Client).Resume)
}

func (c *cli) keepingCommand(name, short string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   name + " [STACK]",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: c.verb(func(ctx context.Context, args []string) error {
			stack, err := c.stackNamed(ctx, args)
			if err != nil {
				return err
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			return do(d, ctx, stack)
		}),
	}
}
