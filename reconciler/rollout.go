package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// rollout is the replacement of one service's containers while a plan is executed. Its failures are counted against what
// the file allows; beyond that it stops, or goes on, as the file says.
type rollout struct {
	planner.Rollout
	placed   []*placement     // containers that serve
	failures map[string]error // by container id
	late     []error          // those found after the container had served, in a rollout that goes on all the same
}

// placement is a container that a rollout has put in place.
type placement struct {
	id       string
	restarts int  // by its policy, until then
	mayEnd   bool // with success
}

// beginRollouts notes what the plan wants replaced, and how.
func (x *execution) beginRollouts(plan planner.Plan) {
	x.rollouts = map[string]*rollout{}
	for _, r := range plan.Rollouts {
		x.rollouts[r.Service] = &rollout{Rollout: r, failures: map[string]error{}}
	}
}

// exceeded tells whether more failed than may.
func (ro *rollout) exceeded() bool {
	return float64(len(ro.failures)) > ro.MaxFailureRatio*float64(ro.Containers)
}

// stopped tells whether the rest is not to be replaced.
func (ro *rollout) stopped() bool { return ro.exceeded() && ro.FailureAction != spec.Continue }

// serve waits for a new container to be ready and lets it serve.
func (x *execution) serve(ctx context.Context, a planner.Action) error {
	id := x.container(a)
	v, err := x.r.engine.Get(id)
	if err != nil {
		return err
	}
	p := &placement{id: id, mayEnd: a.Condition == planner.RunningOrHealthy}
	if a.ContainerID != "" {
		p.restarts = v.Restarts
	}
	err = x.r.ready(ctx, p, func(text string) {
		x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: text})
	})
	if err != nil {
		return x.failed(ctx, a, id, err)
	}
	begun, end := x.r.begun(ctx)
	defer end()
	if err := x.r.serve(begun, id); err != nil {
		return err
	}
	if ro := x.rollouts[a.Service]; ro != nil {
		x.mu.Lock()
		ro.placed = append(ro.placed, p)
		x.mu.Unlock()
	}
	return nil
}

// failed counts a container that failed. What it returns holds up the container's own replacement: its error or, where the
// file allows for some failures, none.
func (x *execution) failed(ctx context.Context, a planner.Action, id string, err error) error {
	ro := x.rollouts[a.Service]
	if ro == nil || !isContainerFault(err) {
		return err
	}
	var fault *ContainerError
	if errors.As(err, &fault) {
		fault.Logs = x.r.lastLines(context.WithoutCancel(ctx), id) // a rollback takes the container away
	}
	x.mu.Lock()
	ro.failures[id] = err
	allowed := !ro.exceeded()
	x.mu.Unlock()
	if allowed {
		x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: err.Error() + "; the rollout goes on, since so many may fail"})
		return errSkipped
	}
	return err
}

// monitor watches the containers put in place so far for as long as the file says.
func (x *execution) monitor(ctx context.Context, a planner.Action) error {
	ro := x.rollouts[a.Service]
	if ro == nil {
		return nil
	}
	end := time.NewTimer(a.For)
	defer end.Stop()
	for over := false; ; {
		changed := x.r.Changed(x.stack)
		if err := x.inspect(ctx, a, ro); err != nil {
			return err
		}
		x.mu.Lock()
		stopped := ro.stopped()
		x.mu.Unlock()
		switch {
		case stopped:
			return errSkipped // what failed has been told
		case over:
			return nil
		}
		select {
		case <-end.C:
			over = true
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inspect looks for containers that have become bad since they serve.
func (x *execution) inspect(ctx context.Context, a planner.Action, ro *rollout) error {
	x.mu.Lock()
	placed := slices.Clone(ro.placed)
	x.mu.Unlock()
	for _, p := range placed {
		x.mu.Lock()
		_, known := ro.failures[p.id]
		x.mu.Unlock()
		v, err := x.r.engine.Get(p.id)
		if err == nil {
			err = x.r.bad(v, p)
		}
		if err == nil || known {
			continue
		}
		err = x.failed(ctx, a, p.id, err)
		switch {
		case errors.Is(err, errSkipped):
		case ro.FailureAction == spec.Continue:
			x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: err.Error()})
			x.mu.Lock()
			ro.late = append(ro.late, &ActionError{Action: a, Err: err})
			x.mu.Unlock()
		default:
			return err
		}
	}
	return nil
}

// delay is the pause between two batches.
func (x *execution) delay(ctx context.Context, a planner.Action) error {
	select {
	case <-time.After(a.For):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rename gives a successor the name of the container whose place it took.
func (r *Reconciler) rename(id, name string) error {
	err := r.engine.Update(id, func(rec *runtime.Record) {
		rec.Name, rec.Succeeds = name, ""
		rec.Endpoints = slices.Clone(rec.Endpoints)
		for i := range rec.Endpoints {
			rec.Endpoints[i].Container = name
		}
	})
	if err != nil {
		return err
	}
	return r.networks.Rename(id, name)
}

// RolloutError says what became of a rollout of which more failed than may.
type RolloutError struct {
	Service string
	Failed  int
	Of      int
	// Back is what the service has gone back to; empty where the rollout is paused.
	Back string
}

func (e *RolloutError) Error() string {
	text := fmt.Sprintf("service.%s: %d of %d new containers failed; ", e.Service, e.Failed, e.Of)
	if e.Back != "" {
		return text + "rolled back to " + e.Back
	}
	return text + "the rollout is paused, and what has not been replaced stays; mend the stack file and run `stack up` again"
}

// settleRollouts does what the file says about the rollouts of an execution that failed, and completes its error.
func (r *Reconciler) settleRollouts(ctx context.Context, s *stack, desired *spec.Stack, x *execution, err error, sink Sink) error {
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	var back, paused []*rollout
	for _, name := range slices.Sorted(maps.Keys(x.rollouts)) {
		ro := x.rollouts[name]
		errs = append(errs, ro.late...)
		switch {
		case !ro.stopped():
		case ro.FailureAction == spec.Rollback && ctx.Err() == nil && !hasConverged(s):
			back = append(back, ro)
		default:
			paused = append(paused, ro)
		}
	}
	if len(back) > 0 {
		to, backErr := r.rollBack(ctx, s, desired, back, sink)
		for _, ro := range back {
			if backErr != nil {
				paused = append(paused, ro)
				continue
			}
			errs = append(errs, ro.failure(to))
		}
		if backErr != nil {
			errs = append(errs, fmt.Errorf("roll back: %w", backErr))
		}
	}
	for _, ro := range paused {
		if err := r.pause(s.name, ro); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, ro.failure(""))
	}
	return joined(flattened(errs))
}

// hasConverged tells whether the newest revision has come true before: what fails now is no fault of its version, and going
// back would bring one that nobody asked for.
func hasConverged(s *stack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.Outcome == Converged
}

func (ro *rollout) failure(back string) error {
	return &RolloutError{Service: ro.Service, Failed: len(ro.failures), Of: ro.Containers, Back: back}
}

// why is what failed, in one line.
func (ro *rollout) why() string {
	var all []string
	for _, err := range ro.failures {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "; ")
}

// flattened takes Errors apart, so that each failure is told by itself.
func flattened(errs []error) []error {
	var flat []error
	for _, err := range errs {
		var many Errors
		if errors.As(err, &many) {
			flat = append(flat, many...)
		} else {
			flat = append(flat, err)
		}
	}
	return flat
}

// IsRolledBack tells whether an error says that a rollout failed and was taken back.
func IsRolledBack(err error) bool {
	var rolled *RolloutError
	return errors.As(err, &rolled) && rolled.Back != ""
}
