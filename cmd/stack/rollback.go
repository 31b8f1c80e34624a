package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) rollbackCommand() *cobra.Command {
	var wait, confirm, yes, keepOrphans, quietPull bool
	var waitTimeout, timeout int
	cmd := &cobra.Command{
		Use:   "rollback [N]",
		Short: "Go back to an earlier revision",
		Long: `Go back to revision N or, without it, to the last one that converged and differs from the present one: its services, the
images that it had (pulled by digest where they are gone), and what its configs and secrets held. Volumes and bind mounts
keep their data. --dry-run prints the plan. What is gone back to becomes a new revision.`,
		Args: cobra.MaximumNArgs(1),
	}
	flags := cmd.Flags()
	flags.BoolVar(&wait, "wait", false, "Wait until services are running or healthy")
	flags.IntVar(&waitTimeout, "wait-timeout", 0, "Seconds to wait at most")
	flags.IntVarP(&timeout, "timeout", "t", 0, "Seconds that a container has to stop")
	flags.BoolVar(&keepOrphans, "keep-orphans", false, "Keep containers of services that the revision does not have")
	flags.BoolVar(&quietPull, "quiet-pull", false, "Pull without progress")
	flags.BoolVar(&confirm, "confirm", false, "Show the plan and ask first")
	flags.BoolVarP(&yes, "yes", "y", false, "Don't ask")
	cmd.RunE = c.verb(func(ctx context.Context, args []string) error {
		number, err := revisionArg(args)
		if err != nil {
			return err
		}
		name, d, err := c.onStack(ctx, nil)
		if err != nil {
			return err
		}
		defer d.Close()
		request, err := d.Rollback(ctx, name, number)
		if err != nil {
			return err
		}
		request.Wait, request.WaitTimeout, request.QuietPull = wait, time.Duration(waitTimeout)*time.Second, quietPull
		request.Options.WaitHealthy = wait
		request.Options.RemoveOrphans = !keepOrphans
		request.Options.Timeout = seconds(timeout, flags.Changed("timeout"))
		if c.dryRun {
			_, err := c.showPlan(ctx, d, request)
			return err
		}
		if confirm {
			if err := c.confirm(ctx, d, &request, yes); err != nil {
				return err
			}
		}
		fmt.Fprintf(c.err, "Going back to %s of stack %s\n", request.Ref, name)
		progress := c.progress("rollback")
		defer progress.Close()
		_, err = d.Up(ctx, request, progress.Event)
		return err
	})
	return cmd
}

// revisionArg is the number of a revision; 0 where none is given.
func revisionArg(args []string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n <= 0 {
		return 0, errors.New(strconv.Quote(args[0]) + " is not the number of a revision; see `stack history`")
	}
	return n, nil
}
