package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/planner"
)

// changesAhead is the exit code of a plan that is not empty.
const changesAhead = 2

func (c *cli) planCommand() *cobra.Command {
	var f upFlags
	var format string
	cmd := &cobra.Command{
		Use:               "plan [SERVICE...]",
		Short:             "Print what `up` would do, and why",
		Long:              "Print what `up` would do, and why. Nothing is changed.\nThe exit code is 0 when there is nothing to do, 2 when there is, 1 after an error.",
		ValidArgsFunction: c.completeServices,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: use text or json", format)
			}
			return f.check(cmd)
		},
		RunE: c.verb(func(ctx context.Context, services []string) error {
			stack, err := c.load(ctx, services)
			if err != nil {
				return err
			}
			request, err := f.request(stack, services)
			if err != nil {
				return err
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			plan, err := c.showPlan(ctx, d, request, format)
			if err != nil {
				return err
			}
			if !plan.Empty() {
				return exit(changesAhead)
			}
			return nil
		}),
	}
	f.define(cmd)
	cmd.Flags().BoolVar(&f.noStart, "no-start", false, "Plan to create containers without starting them")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "Plan to wait until services are running or healthy")
	cmd.Flags().BoolVarP(&f.detach, "detach", "d", false, "Accepted: so that `up -d` becomes `plan -d`")
	cmd.Flags().MarkHidden("detach")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// showPlan prints the plan of an up.
func (c *cli) showPlan(ctx context.Context, d *client.Client, request api.UpRequest, format string) (planner.Plan, error) {
	plan, err := d.Plan(ctx, request)
	if err != nil {
		return plan, err
	}
	return plan, c.printPlan(plan, format)
}

func (c *cli) printPlan(plan planner.Plan, format string) error {
	if format == "json" {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(plan)
	}
	_, err := fmt.Fprint(c.out, planner.Render(plan, planner.RenderOptions{Color: c.colorOn(c.out)}))
	return err
}
