package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

func (c *cli) rmCommand() *cobra.Command {
	var force, stop, volumes bool
	cmd := &cobra.Command{
		Use:               "rm [SERVICE...]",
		Short:             "Remove containers that are stopped",
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, services []string) error {
			request := api.OpRequest{Services: services, Stop: stop, Volumes: volumes}
			if !force && !c.dryRun {
				going, err := c.removable(ctx, services, stop)
				if err != nil {
					return err
				}
				if len(going) == 0 {
					fmt.Fprintln(c.err, "No stopped containers")
					return nil
				}
				if !c.confirmed(fmt.Sprintf("Going to remove %s", strings.Join(going, ", "))) {
					return nil
				}
			}
			return c.op(ctx, "rm", request)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&force, "force", "f", false, "Don't ask")
	flags.BoolVarP(&stop, "stop", "s", false, "Stop them before")
	flags.BoolVarP(&volumes, "volumes", "v", false, "Delete their anonymous volumes, too")
	return cmd
}

// removable are the names of the containers that rm would remove.
func (c *cli) removable(ctx context.Context, services []string, stop bool) ([]string, error) {
	name, d, err := c.onStack(ctx, services)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	containers, err := d.Containers(ctx, name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, container := range containers {
		stopped := container.State == planner.Exited || container.State == planner.Created
		if (stop || stopped) && (len(services) == 0 || slices.Contains(services, container.Service)) {
			names = append(names, container.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// confirmed asks, and takes anything but y or yes for no.
func (c *cli) confirmed(question string) bool {
	fmt.Fprintf(c.err, "? %s\nContinue? [y/N] ", question)
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
