package reconciler

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
)

// watch handles what the engine sees happening to containers.
func (r *Reconciler) watch() {
	for {
		select {
		case ev := <-r.engine.Events():
			r.spawn(func() { r.handle(ev) })
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *Reconciler) handle(ev runtime.Event) {
	select {
	case <-r.taken:
	case <-r.ctx.Done():
		return
	}
	s := r.stack(ev.Container.Stack)
	defer s.notify()
	v, err := r.engine.Get(ev.Container.ID)
	if err != nil {
		return // removed meanwhile
	}
	switch v.State.Status {
	case shim.Running, shim.Paused:
		r.monitor(s, v)
		r.watchLimits(v)
	case shim.Exited:
		r.ended(s, v.ID)
	}
	r.retraffic(s, v.Service)
	r.jobs.happened(v)
}

// takeover brings the daemon up to date with what happened while none ran: shims report their containers, what a crash
// left half-made is removed, what should run and does not is started by its restart policy.
func (r *Reconciler) takeover(ctx context.Context) error {
	all := r.engine.List("")
	live, connected := map[string]bool{}, map[string]string{}
	users := map[string][]string{}
	var endpoints []netdriver.Endpoint
	for _, v := range all {
		live[v.ID] = true
		if v.Connected != "" { // else it keeps its addresses, nothing is published
			connected[v.ID] = v.Connected
		}
		endpoints = append(endpoints, grouped(v)...)
		for _, name := range v.Volumes {
			users[name] = append(users[name], v.ID)
		}
	}
	if err := r.networks.Restore(endpoints, connected); err != nil {
		return fmt.Errorf("take over networks: %w", err)
	}
	if err := r.volumes.Restore(ctx, users); err != nil {
		return fmt.Errorf("take over volumes: %w", err)
	}
	if err := r.engine.Takeover(ctx); err != nil {
		r.logf("take over containers: %v", err) // those of other stacks are no worse for it
	}
	r.settle(ctx, live)
	for _, n := range r.networks.List() { // after a reboot they are on record only
		if _, _, err := r.networks.Ensure(ctx, n); err != nil {
			r.logf("take over networks: %v", err)
		}
	}
	if err := r.networks.Sweep(ctx, live); err != nil {
		return fmt.Errorf("take over networks: %w", err)
	}
	r.resumeTraffic()
	if err := r.watchNetworks(); err != nil {
		return fmt.Errorf("watch networks: %w", err)
	}
	names, err := r.Stacks()
	if err != nil {
		return err
	}
	for _, name := range names {
		r.wakeFull(r.stack(name))
	}
	return nil
}

// atOnce bounds the containers looked after at the same time at the start.
const atOnce = 8

// settle watches over the containers that run, gives back what those that ended hold, and removes those that a crash left
// half-made or that were made for a run that is over. Those that are to run again are left to the loop, which knows the order.
func (r *Reconciler) settle(ctx context.Context, live map[string]bool) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, v := range r.engine.List("") {
		s := r.stack(v.Stack)
		switch {
		case v.Phase != runtime.Made, v.AutoRemove && !v.Running():
			delete(live, v.ID)
			group.Go(func() error {
				if err := r.removeContainer(ctx, v.ID, v.Phase != runtime.Removing || v.DropVolumes); err != nil {
					r.logf("clean up %s: %v", v.Name, err)
				}
				return nil
			})
		case v.Running():
			r.monitor(s, v)
			r.watchLimits(v)
			r.resumeHooks(v.ID)
		default:
			if shouldRestart(v) {
				s.keeper(v.ID).hand()
			}
			group.Go(func() error {
				k := s.keeper(v.ID)
				k.life.Lock()
				defer k.life.Unlock()
				// The shim first: it may just be starting the container, as the daemon before this one asked it to. Then
				// it refuses, and the container keeps its network.
				if err := r.engine.Release(ctx, v.ID); err != nil {
					r.logf("clean up %s: %v", v.Name, err)
					return nil
				}
				if err := r.disconnect(ctx, v.ID); err != nil {
					r.logf("clean up %s: %v", v.Name, err)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // none returns an error
}
