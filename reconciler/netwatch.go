package reconciler

import (
	"context"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
)

// suspectsGather is how long containers that netdriver suspects are gathered, and how long one at work is left alone: a bridge
// that goes is as many as are on it.
const suspectsGather = 10 * time.Millisecond

// watchNetworks takes over what netdriver sees others do to networks and to containers' connections.
func (r *Reconciler) watchNetworks() error {
	drift, err := r.networks.Watch(r.ctx)
	if err != nil {
		return err
	}
	r.spawn(func() {
		suspects := map[string]bool{}
		var due <-chan time.Time
		for {
			select {
			case d, open := <-drift:
				if !open {
					return
				}
				if d.ContainerID != "" {
					suspects[d.ContainerID] = true
				} else if n, err := r.networks.Get(d.Network); err == nil && n.Stack != "" {
					r.wake(r.stack(n.Stack))
				}
			case <-due:
				r.lookAtConnections(suspects)
				due = nil
				if len(suspects) > 0 {
					due = time.After(10 * suspectsGather)
				}
			}
			if len(suspects) > 0 && due == nil {
				due = time.After(suspectsGather)
			}
		}
	})
	return nil
}

// lookAtConnections looks at suspected containers again, while nobody starts or stops them: what is on its way is not broken.
// Those that somebody is at stay suspected.
func (r *Reconciler) lookAtConnections(suspects map[string]bool) {
	var sandboxes []netdriver.Sandbox
	stacks := map[string]*stack{} // by container
	for id := range suspects {
		v, err := r.engine.Get(id)
		if err != nil {
			delete(suspects, id)
			continue
		}
		s := r.stack(v.Stack)
		k := s.keeper(id)
		if !k.life.TryLock() {
			continue
		}
		defer k.life.Unlock()
		delete(suspects, id)
		if v, err = r.engine.Get(id); err == nil && v.Running() && v.State.Netns != "" {
			sandboxes, stacks[id] = append(sandboxes, r.sandboxOf(v)), s
		}
	}
	if len(sandboxes) == 0 {
		return
	}
	found, err := r.networks.ObserveSandboxes(r.ctx, sandboxes)
	if err != nil {
		r.logf("look at containers' connections: %v; the full pass does", err)
		return
	}
	for id, s := range stacks {
		if s.findings.set(ofNetwork, id, found[id]) && len(found[id]) > 0 {
			r.wake(s)
		}
	}
}

// inspectNetworks looks at the connections of a stack's running containers, as no event spoke of them.
func (r *Reconciler) inspectNetworks(ctx context.Context, s *stack) error {
	var sandboxes []netdriver.Sandbox
	var looked []runtime.View
	for _, v := range r.engine.List(s.name) {
		if v.Running() && len(v.Endpoints) > 0 && v.State.Netns != "" && v.Connected == v.State.Netns {
			sandboxes = append(sandboxes, r.sandboxOf(v))
			looked = append(looked, v)
		}
	}
	if len(sandboxes) == 0 {
		return nil
	}
	found, err := r.networks.ObserveSandboxes(ctx, sandboxes)
	if err != nil {
		return err
	}
	for _, v := range looked {
		s.findings.set(ofNetwork, v.ID, found[v.ID])
	}
	return nil
}

// sandboxOf is how a running container is connected, with the readiness that it has now.
func (r *Reconciler) sandboxOf(v runtime.View) netdriver.Sandbox {
	endpoints := withReadiness(grouped(v), r.networks.Readiness(v.ID))
	return netdriver.Sandbox{ContainerID: v.ID, Netns: v.State.Netns, Endpoints: endpoints}
}
