package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

func (c *cli) diffCommand() *cobra.Command {
	var show planFlags
	var from, to int
	cmd := &cobra.Command{
		Use:   "diff [SERVICE...]",
		Short: "Print what differs between the stack file and what runs",
		Long: `Print what differs between the stack file and what runs: the plan of ` + "`up`" + ` with every changed value in full.
With --from or --to, print what differs between two desired states, whatever runs: that of a revision (--from, by default the
newest) and that of the stack file or of another revision (--to).
The exit code is 0 when nothing differs, 2 when something does, 1 after an error.`,
		ValidArgsFunction: c.completeServices,
		PreRunE:           func(*cobra.Command, []string) error { return show.check() },
	}
	show.define(cmd)
	cmd.Flags().IntVar(&from, "from", 0, "Compare revision `N`")
	cmd.Flags().IntVar(&to, "to", 0, "with revision `M` rather than the stack file")
	cmd.RunE = c.verb(func(ctx context.Context, services []string) error {
		for _, name := range []string{"from", "to"} {
			if n, _ := cmd.Flags().GetInt(name); cmd.Flags().Changed(name) && n <= 0 {
				return fmt.Errorf("--%s %d: revisions count from 1; see `stack history`", name, n)
			}
		}
		if from == 0 && to == 0 {
			return c.diffRunning(ctx, show, services)
		}
		return c.diffRevisions(ctx, show, from, to, services)
	})
	return cmd
}

// diffRunning compares the stack file with what runs.
func (c *cli) diffRunning(ctx context.Context, show planFlags, services []string) error {
	stack, err := c.load(ctx, services)
	if err != nil {
		return err
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	plan, err := d.Plan(ctx, api.UpRequest{Stack: stack, Options: planner.Options{Services: services}})
	if err != nil {
		return err
	}
	if err := c.printProposal(plan, show, planner.RenderOptions{Diff: true}); err != nil {
		return err
	}
	if !plan.Empty() {
		return exit(changesAhead)
	}
	return nil
}

// jsonDiff is a comparison of two desired states as `diff --from --format json` prints it.
type jsonDiff struct {
	FormatVersion int  `json:"format_version"`
	Changes       bool `json:"changes"`
	api.DiffReply
}

// diffRevisions compares two desired states.
func (c *cli) diffRevisions(ctx context.Context, show planFlags, from, to int, services []string) error {
	name, stack, err := c.named(ctx, services)
	if err != nil {
		return err
	}
	request := api.DiffRequest{From: from, To: to}
	if to == 0 {
		if stack == nil {
			return fmt.Errorf("there is no stack file to compare with; leave -p away, or say --to M")
		}
		request.Stack = stack
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := d.Diff(ctx, name, request)
	if err != nil {
		return err
	}
	reply.Differences = ofServices(reply.Differences, services)
	if err := c.printDifferences(reply, show); err != nil {
		return err
	}
	if len(reply.Differences) > 0 {
		return exit(changesAhead)
	}
	return nil
}

// ofServices are the differences in the named services, or all.
func ofServices(all []spec.Difference, services []string) []spec.Difference {
	if len(services) == 0 {
		return all
	}
	chosen := []spec.Difference{}
	for _, name := range services {
		for _, d := range all {
			if d.Address == spec.ServiceAddress(name).String() {
				chosen = append(chosen, d)
			}
		}
	}
	return chosen
}

func (c *cli) printDifferences(reply api.DiffReply, show planFlags) error {
	if !show.showSecrets {
		redactDifferences(reply.Differences)
	}
	if show.format == "json" {
		return c.printIndented(jsonDiff{FormatVersion: planFormat, Changes: len(reply.Differences) > 0, DiffReply: reply})
	}
	text := planner.RenderDifferences(reply.Differences, planner.RenderOptions{Diff: true, Color: c.colorOn(c.out)})
	_, err := fmt.Fprint(c.out, text)
	return err
}

func redactDifferences(differences []spec.Difference) {
	for i, d := range differences {
		differences[i].Changes = spec.RedactAll(d.Changes)
	}
}
