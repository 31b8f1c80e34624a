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

// planFlags say how a plan is shown.
type planFlags struct {
	format      string
	verbose     bool
	showSecrets bool
	explain     []string
	output      string
}

func (f *planFlags) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", "text", "text or json")
	cmd.Flags().BoolVar(&f.showSecrets, "show-secrets", false, "Show values that look like secrets")
}

func (f *planFlags) check() error {
	if f.format != "text" && f.format != "json" {
		return fmt.Errorf("--format %q: use text or json", f.format)
	}
	return nil
}

func (c *cli) planCommand() *cobra.Command {
	var f upFlags
	var show planFlags
	cmd := &cobra.Command{
		Use:   "plan [SERVICE...]",
		Short: "Print what `up` would do, and why",
		Long: `Print what ` + "`up`" + ` would do, and why. Nothing is changed, pulled or built.
The exit code is 0 when there is nothing to do, 2 when there is, 1 after an error.

--format json prints one object: format_version (1), stack, changes (whether there is something to do), actions and, where there
are any, notes and explanations. An action has id, kind (create, start, stop, remove, pull, build, update, wait, ...), address, reason and,
where they apply, detail, name, service, replica, container_id, replaces, condition, after (ids of the actions before it) and
changes: path, old and new as JSON text, and text, a unified diff of what a config holds. Fields may be added to version 1; none
changes its meaning.`,
		ValidArgsFunction: c.completeServices,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := show.check(); err != nil {
				return err
			}
			return f.check(cmd)
		},
		RunE: c.verb(func(ctx context.Context, services []string) error { return c.plan(ctx, f, show, services) }),
	}
	f.define(cmd)
	show.define(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.noStart, "no-start", false, "Plan to create containers without starting them")
	flags.BoolVar(&f.wait, "wait", false, "Plan to wait until services are running or healthy")
	flags.BoolVarP(&f.detach, "detach", "d", false, "Accepted: so that `up -d` becomes `plan -d`")
	flags.MarkHidden("detach")
	flags.BoolVarP(&show.verbose, "verbose", "v", false, "Every action by itself, with what it comes after, and values in full")
	flags.StringArrayVar(&show.explain, "explain", nil, "Tell what is compared about an address, such as service.web, and why nothing or something is done")
	flags.StringVarP(&show.output, "output", "o", "", "Save the plan to a file, for `up --plan`. It holds the stack with its secrets.")
	return cmd
}

func (c *cli) plan(ctx context.Context, f upFlags, show planFlags, services []string) error {
	stack, err := c.load(ctx, services)
	if err != nil {
		return err
	}
	request, err := f.request(stack, services)
	if err != nil {
		return err
	}
	request.Explain = show.explain
	if request.Options.Build, err = f.building(stack, services); err != nil {
		return err
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	plan, err := d.Plan(ctx, request)
	if err != nil {
		return err
	}
	if err := c.printProposal(plan, show, planner.RenderOptions{Verbose: show.verbose}); err != nil {
		return err
	}
	if show.output != "" {
		for _, a := range plan.Actions {
			if a.Kind == planner.BuildImage {
				return fmt.Errorf("--output: nothing is saved: %s would be built, and what is done depends on what comes of it; build it first, and plan without --build", a.Name)
			}
		}
		if err := savePlan(show.output, request, plan); err != nil {
			return err
		}
	}
	if !plan.Empty() {
		return exit(changesAhead)
	}
	return nil
}

// showPlan prints the plan of an up as text.
func (c *cli) showPlan(ctx context.Context, d *client.Client, request api.UpRequest) (api.Proposal, error) {
	plan, err := d.Plan(ctx, request)
	if err != nil {
		return plan, err
	}
	return plan, c.printPlan(plan.Plan)
}

func (c *cli) printPlan(plan planner.Plan) error {
	return c.printProposal(api.Proposal{Plan: plan}, planFlags{}, planner.RenderOptions{})
}

// planFormat is the version of the JSON of plans and diffs. Fields are added under the same version, and never change their
// meaning.
const planFormat = 1

// jsonPlan is a plan as `plan --format json` prints it.
type jsonPlan struct {
	FormatVersion int  `json:"format_version"`
	Changes       bool `json:"changes"` // there is something to do
	planner.Plan
	Explanations []planner.Explanation `json:"explanations,omitempty"`
}

func (c *cli) printProposal(p api.Proposal, show planFlags, options planner.RenderOptions) error {
	if !show.showSecrets {
		p.Plan = p.Plan.Redact()
		for i, e := range p.Explanations {
			p.Explanations[i] = e.Redact()
		}
	}
	if show.format == "json" {
		if p.Actions == nil {
			p.Actions = []planner.Action{}
		}
		return c.printIndented(jsonPlan{FormatVersion: planFormat, Changes: !p.Empty(), Plan: p.Plan, Explanations: p.Explanations})
	}
	options.Color = c.colorOn(c.out)
	text := planner.Render(p.Plan, options)
	if len(p.Explanations) > 0 {
		text = planner.RenderExplanations(p.Explanations, options) + text
	}
	_, err := fmt.Fprint(c.out, text)
	return err
}

func (c *cli) printIndented(value any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
