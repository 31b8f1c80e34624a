package reconciler

import (
	"context"
	"slices"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// Down takes a stack down, or some of its services, and forgets it when nothing of it is left. It is on record before it
// begins: one that was interrupted is finished by the loop. It returns the number of actions taken.
func (r *Reconciler) Down(ctx context.Context, name string, desired *spec.Stack, opts planner.DownOptions, sink Sink) (int, error) {
	s := r.stack(name)
	unlock, err := s.lock(ctx, sink)
	if err != nil {
		return 0, err
	}
	defer unlock()
	defer r.wake(s)
	plan, desired, err := r.planOp(ctx, name, desired, func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
		return planner.Down(o, d, opts)
	})
	if err != nil {
		return 0, err
	}
	if len(plan.Actions) > 0 {
		var volumes []string
		for _, a := range plan.Actions {
			if a.Kind == planner.RemoveVolume {
				volumes = append(volumes, a.Name)
			}
		}
		if err := r.changeIntent(s, func(in *intent) { in.Down, in.DownVolumes = &opts, volumes }); err != nil {
			return 0, err
		}
	}
	x := r.execution(name, desired, sink)
	if err := x.run(ctx, plan); err != nil {
		return x.changed, err
	}
	return x.changed, r.isDown(ctx, s, opts)
}

// isDown notes that a down has ended. The caller holds the stack.
func (r *Reconciler) isDown(ctx context.Context, s *stack, opts planner.DownOptions) error {
	if len(r.engine.List(s.name)) == 0 && len(opts.Services) == 0 {
		return r.forget(ctx, s)
	}
	if !r.recorded(s.name) {
		return nil
	}
	left := map[string]bool{}
	for _, v := range r.engine.List(s.name) {
		left[v.Service] = left[v.Service] || !v.OneOff
	}
	return r.changeIntent(s, func(in *intent) {
		in.Down, in.DownVolumes = nil, nil
		for name := range in.Services {
			if !left[name] || len(opts.Services) == 0 {
				delete(in.Services, name)
			}
		}
	})
}

// wishDown goes on with a down that was interrupted.
func (r *Reconciler) wishDown(ctx context.Context, s *stack, in *intent, desired *spec.Stack) (*wish, error) {
	observed, err := r.look(ctx, s.name, desired)
	if err == nil {
		err = r.observeOwned(observed)
	}
	if err != nil {
		return nil, err
	}
	w := &wish{desired: desired, observed: observed, observe: in.Suspended}
	w.after = func(ctx context.Context) error { return r.isDown(ctx, s, *in.Down) }
	w.plan, err = planner.Down(observed, desired, *in.Down)
	w.plan = w.plan.Without(func(a planner.Action) bool {
		return a.Kind == planner.RemoveVolume && !slices.Contains(in.DownVolumes, a.Name)
	})
	return w, err
}
