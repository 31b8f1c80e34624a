package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// ErrCondition says that a condition can't come true any more.
var ErrCondition = errors.New("dependency failed to start")

// ContainerError is a failure of one container: it ended, or is unhealthy, where it was to run.
type ContainerError struct {
	Container runtime.View
	Reason    string
	Detail    string // what the last health check said; may be empty
	Err       error
	// Logs are the last lines of its log, where the container may be gone when somebody wants to read them.
	Logs []string
}

func (e *ContainerError) Error() string {
	text := fmt.Sprintf("container %s %s", e.Container.Name, e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
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
			return r.late(ctx, name, service, condition)
		}
	}
}

// late says which container a wait was for that took too long, and what is known of it.
func (r *Reconciler) late(ctx context.Context, name, service, condition string) error {
	err := ctx.Err()
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("service %s is not %s: %w", service, conditionWords[condition], err)
	}
	for _, v := range r.engine.Service(name, service) {
		if v.OneOff || v.Phase != runtime.Made {
			continue
		}
		if ok, _ := r.containerHolds(context.WithoutCancel(ctx), v, condition); ok {
			continue
		}
		late := &ContainerError{Container: v, Reason: "is not " + conditionWords[condition] + " in time", Err: err}
		if _, _, last := r.stack(name).peek(v.ID); v.Restarts > 0 {
			late.Detail = fmt.Sprintf("it ended and was restarted, %d times so far", v.Restarts)
		} else if last != nil && !last.ok() {
			late.Detail = "its health check failed: " + last.String()
		}
		return late
	}
	return fmt.Errorf("service %s is not %s in time: %w", service, conditionWords[condition], err)
}

var conditionWords = map[string]string{
	spec.Started: "started", spec.Healthy: "healthy", spec.CompletedSuccessfully: "completed", planner.RunningOrHealthy: "running and healthy",
}

// holds tells whether a condition holds for all containers of a service. Containers that a user stopped don't count, unless
// what is waited for is their end.
func (r *Reconciler) holds(ctx context.Context, name, service, condition string) (bool, error) {
	found, stopped := false, ""
	for _, v := range r.engine.Service(name, service) {
		if v.OneOff || v.Phase != runtime.Made {
			continue
		}
		if v.Intent == runtime.IntentStop && !v.Running() && condition != spec.CompletedSuccessfully {
			stopped = v.Name
			continue
		}
		found = true
		if ok, err := r.containerHolds(ctx, v, condition); !ok || err != nil {
			return false, err
		}
	}
	switch {
	case found:
		return true, nil
	case stopped != "":
		return false, fmt.Errorf("%w: container %s was stopped; start it first", ErrCondition, stopped)
	}
	return false, fmt.Errorf("%w: service %s has no container", ErrCondition, service)
}

// containerHolds is the meaning of each condition for one container.
func (r *Reconciler) containerHolds(ctx context.Context, v runtime.View, condition string) (bool, error) {
	state := r.state(v)
	if state == planner.Created {
		return false, failed(v, "was never started") // starts come before waits: nobody is about to
	}
	_, checked := r.healthcheck(ctx, v)
	switch condition {
	case spec.Healthy:
		if !checked {
			return false, failed(v, "has no healthcheck configured")
		}
		return r.healthy(v, state)
	case planner.RunningOrHealthy:
		if state == planner.Exited && v.State.ExitCode == 0 {
			return true, nil // a success, whatever its image's health check would say of it
		}
		if checked {
			return r.healthy(v, state)
		}
		if state == planner.Exited {
			return false, failed(v, fmt.Sprintf("exited (%d)", v.State.ExitCode))
		}
		return state == planner.Running || state == planner.Paused, nil
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
	case state == planner.Running && v.Health == planner.Unhealthy:
		err := &ContainerError{Container: v, Reason: "is unhealthy", Err: ErrCondition}
		if _, _, last := r.stack(v.Stack).peek(v.ID); last != nil {
			err.Detail = "its health check failed: " + last.String()
		}
		return false, err
	}
	return state == planner.Running && v.Health == planner.Healthy, nil
}

func failed(v runtime.View, reason string) error {
	return &ContainerError{Container: v, Reason: reason, Err: ErrCondition}
}

// state is a container's state in the planner's words.
func (r *Reconciler) state(v runtime.View) string {
	s := r.stack(v.Stack)
	restarting, _, _ := s.peek(v.ID)
	return state(v, restarting, s.handed(v.ID))
}

// state is the same for who knows whether a restart is due or on its way, or handed to the loop. Between an end and the
// decision what becomes of it, the policy tells.
func state(v runtime.View, restarting, handed bool) string {
	switch {
	case v.Phase != runtime.Made:
		return planner.Broken
	case v.State.Status == shim.Paused:
		return planner.Paused
	case v.Running():
		return planner.Running
	case v.Intent == runtime.IntentRun && !handed && (restarting || shouldRestart(v)):
		return planner.Restarting
	case v.State.Started.IsZero():
		return planner.Created
	}
	return planner.Exited
}
