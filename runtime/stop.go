package runtime

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/shim"
)

// DefaultStopGrace is how long a stop waits for a container to end by itself.
const DefaultStopGrace = 10 * time.Second

// Stop ends a container's process: its stop signal, the grace period, then SIGKILL. It returns when the process is gone.
// grace nil takes the service's stop_grace_period. Stopping what does not run succeeds.
func (e *Engine) Stop(ctx context.Context, id string, grace *time.Duration) error {
	return e.end(ctx, id, grace, IntentStop)
}

// Halt is Stop by who goes on to start the container, or what takes its place: its record says so, for whoever finds it after
// a crash.
func (e *Engine) Halt(ctx context.Context, id string, grace *time.Duration) error {
	return e.end(ctx, id, grace, IntentHalt)
}

// End is Stop that leaves the container meant to run, as an end by itself would. ErrStopped says that it is not meant to.
func (e *Engine) End(ctx context.Context, id string, grace *time.Duration) error {
	return e.end(ctx, id, grace, IntentRun)
}

func (e *Engine) end(ctx context.Context, id string, grace *time.Duration, intent Intent) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if intent == IntentRun && c.View().Intent != IntentRun {
		return fmt.Errorf("end container %s: %w", c.name(), ErrStopped)
	}
	if err := c.update(func(r *Record) { r.Intent, r.Healing = intent, r.Healing && intent == IntentRun }); err != nil {
		return err
	}
	v := c.View()
	if !v.Running() {
		return nil
	}
	s, err := e.shim(ctx, v.Stack, e.hadShim(v.Stack))
	if err != nil || s == nil {
		return err
	}
	wait := DefaultStopGrace
	if v.Spec.StopGrace != nil {
		wait = *v.Spec.StopGrace
	}
	if grace != nil {
		wait = *grace
	}
	if wait > 0 {
		if err := e.askToStop(ctx, s, c, v, wait); err != nil {
			return fmt.Errorf("stop container %s: %w", v.Name, err)
		}
	}
	if !c.View().Running() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kill container %s: %w", v.Name, err)
	}
	// From here on it dies, whether somebody waits for that or not: who comes next is to find it dead.
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestDeath)
	defer cancel()
	if err := s.client.Signal(waiting, v.ID, syscall.SIGKILL, true); err != nil && !gone(err) {
		return fmt.Errorf("kill container %s: %w", v.Name, err)
	}
	if err := c.wait(waiting, stopped); err != nil {
		if waiting.Err() != nil {
			err = fmt.Errorf("its processes do not end: one may hang in the kernel, on a dead disk or network mount: %w", ErrRunning)
		}
		return fmt.Errorf("kill container %s: %w", v.Name, err)
	}
	return nil
}

// longestDeath is how long killed processes are waited for.
const longestDeath = 30 * time.Second

// askToStop sends the stop signal and waits for the end of the process, at most for grace.
func (e *Engine) askToStop(ctx context.Context, s *stackShim, c *Container, v View, grace time.Duration) error {
	img, err := e.imageConfig(ctx, &v.Record)
	if err != nil {
		e.opts.Logf("container %s: stop signal of its image: %v", v.Name, err)
	}
	sig, err := bundle.StopSignal(&v.Spec, img)
	if err != nil {
		return err
	}
	if v.State.Status == shim.Paused {
		if err := s.client.Resume(ctx, v.ID); err != nil && !gone(err) {
			return err
		}
	}
	if err := s.client.Signal(ctx, v.ID, sig, false); err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := c.wait(waiting, stopped); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

func stopped(s shim.State) bool { return s.Status != shim.Running && s.Status != shim.Paused }

// gone tells that the shim knows no such process any more.
func gone(err error) bool {
	return errors.Is(err, shim.ErrNotFound) || errors.Is(err, shim.ErrConflict)
}

// Signal sends a signal to a container's first process.
func (e *Engine) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	if err := s.client.Signal(ctx, id, sig, false); err != nil {
		return fmt.Errorf("signal container %s: %w", v.Name, err)
	}
	return nil
}

// Pause freezes a container.
func (e *Engine) Pause(ctx context.Context, id string) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	if err := s.client.Pause(ctx, id); err != nil {
		return fmt.Errorf("pause container %s: %w", v.Name, err)
	}
	return nil
}

// Unpause thaws a paused container.
func (e *Engine) Unpause(ctx context.Context, id string) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	if err := s.client.Resume(ctx, id); err != nil {
		return fmt.Errorf("unpause container %s: %w", v.Name, err)
	}
	return nil
}

// Waiter returns a function that waits for the end of a container and returns its exit code. It holds on to the container: the
// code is found even when the container is removed as soon as it ends. Its error is ErrNotFound for one that was removed
// without ever having run.
func (e *Engine) Waiter(id string) (func(context.Context) (int, error), error) {
	c, err := e.get(id)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (int, error) {
		if err := c.wait(ctx, func(s shim.State) bool { return s.Status == shim.Exited }); err != nil {
			return 0, err
		}
		return c.View().State.ExitCode, nil
	}, nil
}

// Release gives back what an exited container that is not to run again soon still holds: its network namespace, cgroup
// and ports.
func (e *Engine) Release(ctx context.Context, id string) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	v := c.View()
	if v.Running() {
		return nil
	}
	if err := e.release(ctx, c, v); err != nil {
		return fmt.Errorf("container %s: release: %w", v.Name, err)
	}
	return nil
}

// running returns the shim of a container that has a process.
func (e *Engine) running(ctx context.Context, id string) (*stackShim, View, error) {
	c, err := e.get(id)
	if err != nil {
		return nil, View{}, err
	}
	v := c.View()
	s, err := e.shim(ctx, v.Stack, false)
	if err != nil {
		return nil, v, err
	}
	if s == nil || !v.Running() {
		return nil, v, fmt.Errorf("container %s: %w", v.Name, ErrNotRunning)
	}
	return s, v, nil
}
