package reconciler

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
)

// findings are what was seen to be wrong around running containers. Events say of which to look, so that a plan costs
// nothing for all the others; the full pass looks at all of them.
type findings struct {
	mu sync.Mutex
	by map[string]map[string][]string // by what was looked at, then container id
}

// The things that are looked at.
const (
	ofLimits  = "limits"
	ofNetwork = "network"
)

// set notes what was found of a container, and tells whether that is news.
func (f *findings) set(what, id string, drift []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[string]map[string][]string{}
	}
	if f.by[what] == nil {
		f.by[what] = map[string][]string{}
	}
	if slices.Equal(f.by[what][id], drift) {
		return false
	}
	if len(drift) == 0 {
		delete(f.by[what], id)
	} else {
		f.by[what][id] = drift
	}
	return true
}

// drop forgets a container that has ended.
func (f *findings) drop(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, by := range f.by {
		delete(by, id)
	}
}

// of is all that was found of a container.
func (f *findings) of(id string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, what := range []string{ofLimits, ofNetwork} {
		all = append(all, f.by[what][id]...)
	}
	return all
}

// lookAtLimits looks at a container whose limits somebody has written to; often that was ourselves.
func (r *Reconciler) lookAtLimits(id string) {
	v, err := r.engine.Get(id)
	if err != nil || !v.Running() || v.Updating {
		return
	}
	drift, err := r.engine.LimitDrift(v)
	if err != nil {
		r.logf("%v", err)
		return
	}
	s := r.stack(v.Stack)
	if s.findings.set(ofLimits, id, drift) && len(drift) > 0 {
		r.wake(s)
	}
}

// inspect looks at all that can be wrong around a stack's running containers.
func (r *Reconciler) inspect(ctx context.Context, s *stack) {
	for _, v := range r.engine.List(s.name) {
		if v.Running() && ctx.Err() == nil {
			r.lookAtLimits(v.ID)
		}
	}
	if err := r.inspectNetworks(ctx, s); err != nil && ctx.Err() == nil {
		r.logf("stack %s: %v", s.name, err)
	}
}

// drift completes what was observed of a container by what others changed or broke around it.
func (r *Reconciler) drift(s *stack, v runtime.View, networks map[string]*planner.Network, c *planner.Container) {
	c.Lost = r.engine.Damage(v)
	if !v.Running() {
		return
	}
	c.Drift = s.findings.of(v.ID)
	for _, ep := range v.Endpoints {
		// What a network lost may have taken the links of its containers along.
		if n := networks[ep.Network]; n != nil && len(n.Drift) > 0 {
			c.Drift = append(c.Drift, "on network "+ep.Network)
		}
	}
}

// repair puts right what is around a running container, without touching it.
func (x *execution) repair(ctx context.Context, a planner.Action) error {
	v, err := x.r.engine.Get(a.ContainerID)
	if err != nil || !v.Running() {
		return ignoreNotFound(err)
	}
	s := x.r.stack(x.stack)
	k := s.keeper(v.ID)
	k.life.Lock()
	defer k.life.Unlock()
	if v, err = x.r.engine.Get(v.ID); err != nil || !v.Running() {
		return ignoreNotFound(err)
	}
	limits, err := x.r.engine.LimitDrift(v)
	if err != nil {
		return err
	}
	if len(limits) > 0 {
		if _, err := x.r.engine.SetLimits(ctx, v.ID, &v.Spec); err != nil {
			return err
		}
	}
	s.findings.set(ofLimits, v.ID, nil)
	if len(v.Endpoints) > 0 && v.State.Netns != "" {
		if _, err := x.r.links.connect(x.r.sandboxOf(v)); err != nil {
			return err
		}
	}
	s.findings.set(ofNetwork, v.ID, nil)
	return nil
}

// processOf is the first process of a container that runs, else 0.
func (r *Reconciler) processOf(id string) int {
	if v, err := r.engine.Get(id); err == nil && v.Running() {
		return v.State.PID
	}
	return 0
}

// repairVolume brings back what a volume lost: its record, its mount. What keeps it from being what the stack file says doesn't
// keep its mount from those that use it.
func (x *execution) repairVolume(ctx context.Context, a planner.Action) error {
	err := x.ensureVolume(ctx, a)
	for _, user := range x.r.engine.List("") {
		if !user.Running() || !slices.Contains(user.Volumes, a.Name) {
			continue
		}
		if _, failed := x.r.volumes.Acquire(ctx, a.Name, user.ID); failed != nil {
			return errors.Join(err, failed)
		}
		err = nil
	}
	return err
}
