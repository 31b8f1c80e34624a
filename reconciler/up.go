package reconciler

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// UpOptions of an Up beyond the plan's own.
type UpOptions struct {
	planner.Options
	// Cause of the revision that it makes.
	Cause Cause
	// Expect, unless nil, is what a plan was made from that was shown or saved: nothing is done when it is not so any more.
	Expect *planner.Basis
	// WaitTimeout bounds the whole operation when it waits (`--wait`); 0 doesn't.
	WaitTimeout time.Duration
}

// PlanUp tells what Up would do.
func (r *Reconciler) PlanUp(ctx context.Context, desired *spec.Stack, opts planner.Options) (planner.Plan, error) {
	plan, _, err := r.planUp(ctx, desired, opts)
	return plan, err
}

func (r *Reconciler) planUp(ctx context.Context, desired *spec.Stack, opts planner.Options) (planner.Plan, *planner.Observed, error) {
	if err := r.check(desired); err != nil {
		return planner.Plan{}, nil, err
	}
	observed, err := r.observe(ctx, desired.Name, desired)
	if err != nil {
		return planner.Plan{}, nil, err
	}
	plan, err := planner.Up(desired, observed, opts)
	return plan, observed, err
}

// Up converges a stack to a desired state and returns the number of actions it took. When some of them fail the others
// are still done; the errors come back together.
func (r *Reconciler) Up(ctx context.Context, desired *spec.Stack, opts UpOptions, sink Sink) (int, error) {
	s := r.stack(desired.Name)
	unlock, err := s.lock(ctx, sink)
	if err != nil {
		return 0, err
	}
	defer unlock()
	opts.Build = planner.BuildNothing // the command has had it done
	asked := ctx
	defer r.wake(s) // what was not done is the loop's to finish
	if opts.WaitTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.WaitTimeout)
		defer cancel()
	}
	plan, observed, err := r.planUp(ctx, desired, opts.Options)
	if err != nil {
		return 0, err
	}
	if err := r.expected(opts.Expect, desired, observed, plan); err != nil {
		return 0, err
	}
	revision, images := 0, observed.Images
	if len(plan.Pulls()) > 0 {
		images = nil // what their tags point to is known when they are pulled
	}
	// Whether a plan that was saved still holds is known when its pulls are done: until then it is not what the stack is to be.
	if opts.Expect == nil || images != nil {
		if err := r.resume(s.name, desired, opts.Options); err != nil {
			return 0, err
		}
		if err := r.upIntent(s, desired, opts.Options, images); err != nil {
			return 0, err
		}
		if revision, err = r.begin(s, desired, observed, opts, 0); err != nil {
			return 0, err
		}
	}
	changed, err := r.converge(ctx, s, desired, opts, plan, &revision, sink)
	switch {
	case revision == 0: // refused
	case err == nil:
		r.conclude(s, revision, Converged, nil)
	case IsRolledBack(err):
		r.conclude(s, revision, RolledBack, err)
	case ctx.Err() == nil || opts.WaitTimeout > 0 && asked.Err() == nil:
		r.conclude(s, revision, Failed, err)
	}
	return changed, err
}

// converge does a plan of Up, the pulls first. The revision becomes another one where only the pulls tell that it is.
func (r *Reconciler) converge(ctx context.Context, s *stack, desired *spec.Stack, opts UpOptions, plan planner.Plan, revision *int, sink Sink) (int, error) {
	changed := 0
	if len(plan.Pulls()) > 0 {
		var observed *planner.Observed
		var err error
		if plan, observed, changed, err = r.pullFirst(ctx, desired, &opts.Options, plan, sink); err != nil {
			return changed, err
		}
		if err := expectedAfterPull(opts.Expect, plan); err != nil {
			return changed, err
		}
		if err := r.resume(s.name, desired, opts.Options); err != nil {
			return changed, err
		}
		if err := r.upIntent(s, desired, opts.Options, observed.Images); err != nil {
			return changed, err
		}
		if *revision, err = r.begin(s, desired, observed, opts, *revision); err != nil {
			return changed, err
		}
	}
	x := r.execution(desired.Name, desired, sink)
	err := r.settleRollouts(ctx, s, desired, x, x.run(ctx, plan), sink)
	return changed + x.changed, err
}

// pullFirst does the pulls of a plan and plans again: what a tag points to is known only then.
func (r *Reconciler) pullFirst(ctx context.Context, desired *spec.Stack, opts *planner.Options, plan planner.Plan, sink Sink) (planner.Plan, *planner.Observed, int, error) {
	pulls := planner.Plan{Stack: plan.Stack}
	pulled := map[string]bool{}
	maps.Copy(pulled, opts.Pulled)
	for _, a := range plan.Pulls() {
		a.ID, a.After = len(pulls.Actions), nil
		pulls.Actions = append(pulls.Actions, a)
		pulled[a.Name] = true
	}
	x := r.execution(desired.Name, desired, sink)
	if err := x.run(ctx, pulls); err != nil {
		return plan, nil, x.changed, err
	}
	opts.Pulled = pulled
	plan, observed, err := r.planUp(ctx, desired, *opts)
	return plan, observed, x.changed, err
}

// check refuses, before anything is touched, what this host can't do.
func (r *Reconciler) check(desired *spec.Stack) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(desired.Networks)) {
		n := desired.Networks[key]
		if n.External {
			continue
		}
		want, err := network(desired.Name, n)
		if err == nil {
			err = r.networks.Validate(want)
		}
		if err != nil {
			errs = append(errs, &AddressError{Address: spec.NetworkAddress(key).String(), Err: err})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(desired.Services)) {
		svc := desired.Services[name]
		errs = append(errs, r.checkWorkload(desired, spec.ServiceAddress(name), svc)...)
		for i := range svc.PreStart {
			hook := svc.PreStart[i].Service
			hook.Position = svc.Position
			errs = append(errs, r.checkWorkload(desired, spec.ServiceAddress(name), &hook)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(desired.Jobs)) {
		errs = append(errs, r.checkWorkload(desired, spec.JobAddress(name), &desired.Jobs[name].Service)...)
	}
	return joined(errs)
}

func (r *Reconciler) checkWorkload(desired *spec.Stack, address spec.Address, svc *spec.Service) []error {
	var found []error
	if err := r.engine.Check(svc); err != nil {
		found = append(found, err)
	}
	for _, m := range svc.Mounts {
		if err := r.volumes.Check(m); err != nil {
			found = append(found, fmt.Errorf("volumes: %s: %w", m.Target, err))
		}
	}
	for _, f := range append(slices.Clone(svc.Secrets), svc.Configs...) {
		if src := fileOf(desired, f.Source); src != nil && src.File != "" && !r.isKept(desired.Name, f.Digest) {
			if _, err := os.Stat(src.File); err != nil {
				found = append(found, fmt.Errorf("%s: %w", f.Source, err))
			}
		}
	}
	for i, err := range found {
		found[i] = &AddressError{Address: address.String(), Position: svc.Position, Err: err}
	}
	return found
}

func fileOf(desired *spec.Stack, name string) *spec.File {
	if f := desired.Secrets[name]; f != nil {
		return f
	}
	return desired.Configs[name]
}

// AddressError is a fault of one part of the desired state, found before anything was touched.
type AddressError struct {
	Address  string
	Position string
	Err      error
}

func (e *AddressError) Error() string {
	if e.Position != "" {
		return fmt.Sprintf("%s: %s: %v", e.Position, e.Address, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Address, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }

// Op is an operation on what runs of a stack. desired is the stack file's, nil where there is none.
type Op func(observed *planner.Observed, desired *spec.Stack) (planner.Plan, error)

// PlanOp tells what Do would do.
func (r *Reconciler) PlanOp(ctx context.Context, name string, desired *spec.Stack, op Op) (planner.Plan, error) {
	plan, _, err := r.planOp(ctx, name, desired, op)
	return plan, err
}

func (r *Reconciler) planOp(ctx context.Context, name string, desired *spec.Stack, op Op) (planner.Plan, *spec.Stack, error) {
	if desired == nil {
		var err error
		if desired, err = r.desiredState(r.stack(name)); err != nil {
			return planner.Plan{}, nil, err
		}
	}
	observed, err := r.observe(ctx, name, desired)
	if err == nil {
		err = r.observeOwned(observed)
	}
	if err != nil {
		return planner.Plan{}, nil, err
	}
	plan, err := op(observed, desired)
	return plan, desired, err
}

// Do plans an operation and executes it; it returns the number of actions taken.
func (r *Reconciler) Do(ctx context.Context, name string, desired *spec.Stack, op Op, sink Sink) (int, error) {
	s := r.stack(name)
	unlock, err := s.lock(ctx, sink)
	if err != nil {
		return 0, err
	}
	defer unlock()
	plan, desired, err := r.planOp(ctx, name, desired, op)
	if err != nil {
		return 0, err
	}
	if err := r.opIntent(s, plan); err != nil {
		return 0, err
	}
	defer r.wake(s)
	x := r.execution(name, desired, sink)
	err = x.run(ctx, plan)
	return x.changed, err
}

// Forget removes what is kept of a stack after a `down`, when nothing of it is left: its shim, its desired state.
func (r *Reconciler) Forget(ctx context.Context, name string) error {
	s := r.stack(name)
	unlock, err := s.lock(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	return r.forget(ctx, s)
}

// forget is Forget for who holds the stack.
func (r *Reconciler) forget(ctx context.Context, s *stack) error {
	if len(r.engine.List(s.name)) > 0 {
		return nil
	}
	if err := r.engine.RemoveStack(ctx, s.name); err != nil {
		return err
	}
	s.mu.Lock()
	s.desired, s.newest, s.loaded, s.intent = nil, Revision{}, false, nil
	s.mu.Unlock()
	return nil
}

// Containers of a stack with their states.
func (r *Reconciler) Containers(name string) []Status {
	var out []Status
	for _, v := range r.engine.List(name) {
		out = append(out, r.status(v))
	}
	return out
}

// Status is a container with its state in the planner's words.
type Status struct {
	runtime.View
	State   string
	NextTry time.Time // of a restart under back-off
	Probe   *Probe    // the last result of its health check in this run; nil where this daemon saw none
}

func (r *Reconciler) status(v runtime.View) Status {
	s := r.stack(v.Stack)
	restarting, next, last := s.peek(v.ID)
	return Status{View: v, State: state(v, restarting, s.handed(v.ID)), NextTry: next, Probe: last}
}
