package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// ErrHook says that a lifecycle hook failed.
var ErrHook = errors.New("lifecycle hook failed")

// hooking is one run of a container's post_start hooks. It belongs to no operation: who goes away leaves it running.
type hooking struct {
	done chan struct{}
	err  error
}

// postStart runs what is left of the post_start hooks of a container's present run and waits for them. Whoever asks while
// they run waits for the same.
func (r *Reconciler) postStart(ctx context.Context, id string) error {
	v, err := r.engine.Get(id)
	if err != nil || !v.HooksPending() {
		return err
	}
	k := r.stack(v.Stack).keeper(id)
	k.mu.Lock()
	h := k.hooks
	if h == nil {
		h = &hooking{done: make(chan struct{})}
		k.hooks = h
		r.spawn(func() {
			h.err = r.runPostStart(r.ctx, id)
			k.mu.Lock()
			k.hooks = nil
			k.mu.Unlock()
			close(h.done)
			r.stack(v.Stack).notify()
		})
	}
	k.mu.Unlock()
	select {
	case <-h.done:
		return h.err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// runPostStart runs the hooks in their order, recording each that succeeded. The name of each process is that of the hook and
// the run: after a crash the next daemon waits for the one that runs rather than start it again.
func (r *Reconciler) runPostStart(ctx context.Context, id string) error {
	for {
		v, err := r.engine.Get(id)
		if err != nil || !v.HooksPending() {
			return err
		}
		run, next := v.State.Started, 0
		if v.Hooked.Run.Equal(run) {
			next = v.Hooked.Done
		}
		code, err := r.engine.Hook(ctx, hookRequest(v, spec.PostStart, v.Spec.PostStart[next], fmt.Sprintf("%s-%d-%d", spec.PostStart, next, run.UnixNano())))
		if err != nil && ctx.Err() != nil {
			return err
		}
		if code != 0 || err != nil {
			return r.hookFailed(v, spec.PostStart, v.Spec.PostStart[next], code, err)
		}
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Hooked = runtime.Hooked{Run: run, Done: next + 1} }); err != nil {
			return err
		}
	}
}

// hookFailed is the error of a hook, or that its container ended meanwhile, which ends the hook too.
func (r *Reconciler) hookFailed(v runtime.View, kind string, h spec.Hook, code int, err error) error {
	command := strings.Join(h.Command, " ")
	now, getErr := r.engine.Get(v.ID)
	switch {
	case getErr != nil:
		return getErr
	case !now.Running():
		return &ContainerError{Container: now, Reason: fmt.Sprintf("exited (%d) while its %s hook %q ran", now.State.ExitCode, kind, command), Err: ErrHook}
	case err != nil:
		return &ContainerError{Container: now, Reason: fmt.Sprintf("can't run its %s hook %q", kind, command), Detail: err.Error(), Err: errors.Join(ErrHook, err)}
	}
	return &ContainerError{Container: now, Reason: fmt.Sprintf("is running, but its %s hook %q exited with status %d", kind, command, code), Err: ErrHook}
}

func hookRequest(v runtime.View, kind string, h spec.Hook, execID string) shim.ExecRequest {
	req := shim.ExecRequest{
		ID: v.ID, ExecID: execID, Args: h.Command, Cwd: h.WorkingDir, User: h.User, Privileged: h.Privileged, Hook: kind,
	}
	for _, name := range slices.Sorted(maps.Keys(h.Environment)) {
		req.Env = append(req.Env, name+"="+h.Environment[name])
	}
	return req
}

// lastMoment is what is left of a grace period for the stop signal when pre_stop hooks have used it up.
const lastMoment = time.Second

// preStop runs the pre_stop hooks of a container that is asked to stop, within its grace period, and returns what is left of it.
// A hook that fails or takes too long is told of and keeps nothing from stopping: a stack must be able to go down.
func (r *Reconciler) preStop(ctx context.Context, a stopRequest) *time.Duration {
	v, err := r.engine.Get(a.id)
	if err != nil || v.State.Status != shim.Running || len(v.Spec.PreStop) == 0 {
		return a.grace
	}
	grace := runtime.DefaultStopGrace
	if v.Spec.StopGrace != nil {
		grace = *v.Spec.StopGrace
	}
	if a.grace != nil {
		grace = *a.grace
	}
	if grace <= 0 {
		return a.grace // it is killed, not asked
	}
	begun := time.Now()
	hooks, cancel := context.WithTimeoutCause(ctx, grace, fmt.Errorf("it took longer than the grace period of %s", grace))
	defer cancel()
	for i, h := range v.Spec.PreStop {
		execID := fmt.Sprintf("%s-%d-%d", spec.PreStop, i, begun.UnixNano())
		code, err := r.engine.Hook(hooks, hookRequest(v, spec.PreStop, h, execID))
		if hooks.Err() != nil {
			r.engine.KillHook(context.WithoutCancel(ctx), v.ID, execID)
			err = context.Cause(hooks)
		}
		if now, getErr := r.engine.Get(v.ID); getErr != nil || !now.Running() {
			return a.grace // it has ended by itself: nothing to ask any more
		}
		if err != nil || code != 0 {
			r.tell(a, r.hookFailed(v, spec.PreStop, h, code, err).Error()+"; it is stopped all the same")
		}
		if hooks.Err() != nil {
			break
		}
	}
	left := max(grace-time.Since(begun), lastMoment)
	return &left
}

func (r *Reconciler) tell(a stopRequest, text string) {
	if a.warn != nil {
		a.warn(text)
		return
	}
	r.logf("%s", text)
}

// resumeHooks runs pending post_start hooks where no operation waits for them: after a restart by policy, in a one-off
// container, after the daemon before this one was killed. A failure is logged; the container stays pending.
func (r *Reconciler) resumeHooks(id string) {
	v, err := r.engine.Get(id)
	if err != nil || !v.HooksPending() {
		return
	}
	r.spawn(func() {
		if err := r.postStart(r.ctx, id); err != nil && r.ctx.Err() == nil {
			r.logf("%v", err)
		}
	})
}
