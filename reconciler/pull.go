package reconciler

import (
	"context"
	"maps"
	"slices"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// PullOptions of a Pull.
type PullOptions struct {
	Services       []string // empty: all
	Policy         string   // missing, or always
	IncludeDeps    bool
	IgnoreFailures bool
}

// Pull fetches the images of services, each once, and returns how many were fetched.
func (r *Reconciler) Pull(ctx context.Context, desired *spec.Stack, opts PullOptions, sink Sink) (int, error) {
	chosen, err := desired.Select(opts.Services, opts.IncludeDeps || len(opts.Services) == 0)
	if err != nil {
		return 0, err
	}
	observed, err := r.observe(ctx, desired.Name, desired)
	if err != nil {
		return 0, err
	}
	plan := planner.Plan{Stack: desired.Name}
	asked := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(chosen.Services)) {
		svc := chosen.Services[name]
		policy := opts.Policy
		if policy == "" {
			policy = svc.PullPolicy
		}
		have := observed.Images[svc.Image] != nil
		if svc.Image == "" || asked[svc.Image] || policy == "never" || have && (policy == "missing" || policy == "if_not_present") {
			continue
		}
		asked[svc.Image] = true
		plan.Actions = append(plan.Actions, planner.Action{
			ID: len(plan.Actions), Kind: planner.PullImage, Address: spec.ImageAddress(svc.Image).String(), Name: svc.Image,
			Service: name, Reason: planner.Requested, Optional: opts.IgnoreFailures,
		})
	}
	x := r.execution(desired.Name, desired, sink)
	err = x.run(ctx, plan)
	return x.changed, err
}
