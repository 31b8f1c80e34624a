package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) pullCommand() *cobra.Command {
	var request api.PullRequest
	var quiet, ignoreBuildable bool
	cmd := &cobra.Command{
		Use:               "pull [SERVICE...]",
		Short:             "Pull the images of services",
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, services []string) error {
			if request.Policy != "" && request.Policy != "missing" && request.Policy != "always" {
				return fmt.Errorf("--policy %q: use missing or always", request.Policy)
			}
			stack, err := c.load(ctx, services)
			if err != nil {
				return err
			}
			request.Stack, request.Services = stack, services
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			if quiet {
				c.progressMode = string(ui.Quiet)
			}
			progress := c.progress("pull")
			defer progress.Close()
			_, err = d.Pull(ctx, request, progress.Event)
			return err
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Policy, "policy", "", "missing: only what is not here; always: whatever the stack file says")
	flags.BoolVar(&request.IncludeDeps, "include-deps", false, "What the services depend on, too")
	flags.BoolVar(&request.IgnoreFailures, "ignore-pull-failures", false, "Go on when an image can't be pulled")
	flags.BoolVar(&ignoreBuildable, "ignore-buildable", false, "Accepted: nothing is built")
	flags.BoolVarP(&quiet, "quiet", "q", false, "Without progress")
	return cmd
}
