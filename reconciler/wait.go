package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// ErrCondition says that a condition can't come true any more.
var ErrCondition = errors.New("dependency failed to start")

// ContainerError is a failure of one container: it ended, or is unhealthy, where it was to run.
type ContainerError struct {
	Container runtime.View
	Reason    string
	Err       error
}

func (e *ContainerError) Error() string {
	return fmt.Sprintf("container %s %s", e.Container.Name, e.Reason)
}

func (e *ContainerError) Unwrap() error { return e.Err }

// waitFor returns when a condition holds for all containers of a service, or as soon as it can't any more.
func (r *Reconciler) waitFor(ctx context.Context, name, service, condition string) error {
	for {
		changed := r.Changed(name)
		ok, err := r.holds(ctx, name, service, condition)
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("service %s is not %s: %w", service, conditionWords[condition], ctx.Err())
		}
	}
}

var conditionWords = map[string]string{
	spec.Started: "started", spec.Healthy: "healthy", spec.CompletedSuccessfully: "completed", planner.RunningOrHealthy: "running",
}

func (r *Reconciler) holds(ctx context.Context, name, service, condition string) (bool, error) {
	found := false
	for _, v := range r.engine.List(name) {
		if v.Service != service || v.OneOff || v.Phase != runtime.Made {
			continue
		}
		if v.Intent == runtime.IntentStop && !v.Running() {
			continue // a user stopped it: nobody waits for it
		}
		found = true
		if ok, err := r.containerHolds(ctx, v, condition); !ok || err != nil {
			return false, err
		}
	}
	return found, nil
}

// containerHolds is the meaning of each condition for one container.
func (r *Reconciler) containerHolds(ctx context.Context, v runtime.View, condition string) (bool, error) {
	state := r.state(v)
	_, checked := r.healthcheck(ctx, v)
	switch condition {
	case spec.Healthy:
		if !checked {
			return false, failed(v, "has no healthcheck configured")
		}
		return r.healthy(v, state)
	case planner.RunningOrHealthy:
		if checked {
			return r.healthy(v, state)
		}
		if state == planner.Exited && v.State.ExitCode != 0 {
			return false, failed(v, fmt.Sprintf("exited (%d)", v.State.ExitCode))
		}
		return state == planner.Running || state == planner.Paused || state == planner.Exited, nil
	case spec.CompletedSuccessfully:
		if state == planner.Exited && v.State.ExitCode != 0 {
			return false, failed(v, fmt.Sprintf("didn't complete successfully: exit %d", v.State.ExitCode))
		}
		return state == planner.Exited, nil
	default:
		return !v.State.Started.IsZero(), nil
	}
}

func (r *Reconciler) healthy(v runtime.View, state string) (bool, error) {
	switch {
	case state == planner.Exited:
		return false, failed(v, fmt.Sprintf("exited (%d)", v.State.ExitCode))
	case v.Health == planner.Unhealthy:
		return false, failed(v, "is unhealthy")
	}
	return state == planner.Running && v.Health == planner.Healthy, nil
}

func failed(v runtime.View, reason string) error {
	return &ContainerError{Container: v, Reason: reason, Err: ErrCondition}
}

// state is a container's state in the planner's words.
func (r *Reconciler) state(v runtime.View) string {
	switch {
	case v.Phase != runtime.Made:
		return planner.Broken
	case v.State.Status == "paused":
		return planner.Paused
	case v.Running():
		return planner.Running
	case v.Intent == runtime.IntentRun && shouldRestart(v):
		return planner.Restarting
	case v.State.Started.IsZero():
		return planner.Created
	}
	return planner.Exited
}
