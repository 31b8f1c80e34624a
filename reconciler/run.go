package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// ErrNameTaken refuses a container name that another container has.
var ErrNameTaken = errors.New("the name is taken")

// RunOptions of a one-off container.
type RunOptions struct {
	Name         string
	NoDeps       bool
	Remove       bool // when it exits
	ServicePorts bool
	UseAliases   bool
	Pull         string
	Cause        Cause
}

// Run makes a one-off container of a service: what the service depends on is brought up, then the container is created.
// Start starts it, so that the caller can attach in between.
func (r *Reconciler) Run(ctx context.Context, desired *spec.Stack, svc *spec.Service, opts RunOptions, sink Sink) (runtime.View, error) {
	s := r.stack(desired.Name)
	unlock, err := s.lock(ctx, sink)
	if err != nil {
		return runtime.View{}, err
	}
	defer unlock()
	needs := UpOptions{Cause: opts.Cause, Options: planner.Options{
		Services: []string{svc.Name}, OneOff: svc.Name,
		NoDeps: opts.NoDeps, NoRecreate: true, Pull: opts.Pull, IgnoreOrphans: true,
	}}
	plan, observed, err := r.planUp(ctx, desired, needs.Options)
	if err != nil {
		return runtime.View{}, err
	}
	if err := r.upIntent(s, desired, needs.Options, observed.Images); err != nil {
		return runtime.View{}, err
	}
	// What the container needs is to be there from now on, and `down` finds what `run` makes.
	revision, err := r.begin(s, desired, observed, needs, 0)
	if err != nil {
		return runtime.View{}, err
	}
	x := r.execution(desired.Name, desired, sink)
	if err := x.run(ctx, plan); err != nil {
		if ctx.Err() == nil {
			r.conclude(s, revision, Failed, err)
		}
		return runtime.View{}, err
	}
	r.conclude(s, revision, Converged, nil)
	if err := x.ensureImage(ctx, svc, opts.Pull); err != nil {
		return runtime.View{}, err
	}
	name := opts.Name
	if name == "" {
		name = desired.Name + "-" + svc.Name + "-run-" + runtime.NewID()[:12]
	}
	for _, v := range r.engine.List("") {
		if v.Name == name {
			return runtime.View{}, fmt.Errorf("%w: container %s is %s of stack %s; choose another one, or remove it", ErrNameTaken, name, v.Address(), v.Stack)
		}
	}
	ctx, end := r.begun(ctx)
	defer end()
	v, err := r.createContainer(ctx, creation{
		stack: desired, service: svc, name: name, replica: 1, oneOff: true, remove: opts.Remove,
		noPorts: !opts.ServicePorts, noAliases: !opts.UseAliases,
	})
	if err == nil && opts.Remove {
		r.expire(s, v.ID, unclaimed)
	}
	return v, err
}

// unclaimed is how long a container that is to be removed after its run waits for its start.
const unclaimed = time.Minute

// expire removes a container that nobody has started by then: its client is gone.
func (r *Reconciler) expire(s *stack, id string, after time.Duration) {
	k := s.keeper(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	k.timer = time.AfterFunc(after, func() {
		r.spawn(func() {
			v, err := r.engine.Get(id)
			if err != nil || !v.State.Started.IsZero() || v.Intent != runtime.IntentNone {
				return
			}
			if err := r.removeContainer(r.ctx, id, true); err != nil {
				r.logf("remove %s, which nobody started: %v", v.Name, err)
			}
		})
	})
}

// ensureImage pulls a service's image where its containers alone would not have asked for it.
func (x *execution) ensureImage(ctx context.Context, svc *spec.Service, policy string) error {
	if policy == "" {
		policy = svc.PullPolicy
	}
	_, err := x.r.images.Get(ctx, svc.Image, svc.Platform)
	if err == nil && policy != "always" || policy == "never" {
		return err
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	return x.perform(ctx, planner.Action{
		Kind: planner.PullImage, Address: spec.ImageAddress(svc.Image).String(), Name: svc.Image, Service: svc.Name, Reason: planner.Missing,
	})
}

// Start starts one container. Its standard output and error are copied to the given files from the first byte on.
func (r *Reconciler) Start(ctx context.Context, id string, attach ...*os.File) error {
	ctx, end := r.begun(ctx)
	defer end()
	if err := r.startContainer(ctx, id, startOptions{attach: attach}); err != nil {
		return err
	}
	r.resumeHooks(id)
	return nil
}

// Remove deletes one container of a stack by id, ending it first when force says so.
func (r *Reconciler) Remove(ctx context.Context, id string, force, volumes bool) error {
	if force {
		if err := r.stopContainer(ctx, stopRequest{id: id, grace: &zero}); err != nil {
			return err
		}
	}
	ctx, end := r.begun(ctx)
	defer end()
	return r.removeContainer(ctx, id, volumes)
}
