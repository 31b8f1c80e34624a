package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/client"
)

// inspectCommand prints all that is known of networks or volumes.
func inspectCommand[T any](c *cli, noun string, list func(context.Context) ([]T, error), nameOf func(T) string) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect " + strings.ToUpper(noun) + "...",
		Short: "Print all that is known of " + noun + "s",
		Args:  cobra.MinimumNArgs(1),
		RunE: c.verb(func(ctx context.Context, names []string) error {
			all, err := list(ctx)
			if err != nil {
				return err
			}
			found, err := pickNamed(all, names, noun, nameOf)
			if err != nil {
				return err
			}
			return c.printInspected(found)
		}),
	}
}

// removeCommand removes networks or volumes by name.
func (c *cli) removeCommand(noun, short string, remove func(*client.Client, context.Context, string) error) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm " + strings.ToUpper(noun) + "...",
		Aliases: []string{"remove"},
		Short:   short,
		Args:    cobra.MinimumNArgs(1),
		RunE: c.verb(func(ctx context.Context, names []string) error {
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			return c.each(names, func(name string) error {
				err := remove(d, ctx, name)
				if force && isNotFound(err) {
					return nil
				}
				if err == nil {
					fmt.Fprintln(c.out, name)
				}
				return err
			})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Don't complain about "+noun+"s that don't exist")
	return cmd
}
