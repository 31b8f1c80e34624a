package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
)

// watch handles what the engine sees happening to containers.
func (r *Reconciler) watch() {
	for {
		select {
		case ev := <-r.engine.Events():
			r.tasks.Go(func() { r.handle(ev) })
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *Reconciler) handle(ev runtime.Event) {
	s := r.stack(ev.Container.Stack)
	defer s.notify()
	v, err := r.engine.Get(ev.Container.ID)
	if err != nil {
		return // removed meanwhile
	}
	if v.Running() {
		r.monitor(s, v)
		return
	}
	if ev.Kind == "exit" || ev.Kind == "lost" || ev.Kind == "state" {
		r.ended(s, v)
	}
}

// takeover brings the daemon up to date with what happened while none ran: shims report their containers, what a crash
// left half-made is removed, what should run and does not is started by its restart policy.
func (r *Reconciler) takeover(ctx context.Context) error {
	all := r.engine.List("")
	live := map[string]bool{}
	users := map[string][]string{}
	var endpoints []netdriver.Endpoint
	for _, v := range all {
		live[v.ID] = true
		endpoints = append(endpoints, v.Endpoints...)
		for _, name := range v.Volumes {
			users[name] = append(users[name], v.ID)
		}
	}
	if err := r.networks.Restore(endpoints); err != nil {
		return fmt.Errorf("take over networks: %w", err)
	}
	if err := r.volumes.Restore(ctx, users); err != nil {
		return fmt.Errorf("take over volumes: %w", err)
	}
	if err := r.engine.Takeover(ctx); err != nil {
		return fmt.Errorf("take over containers: %w", err)
	}
	var errs []error
	for _, v := range r.engine.List("") {
		if v.Phase != runtime.Made {
			if err := r.removeContainer(ctx, v.ID, true); err != nil {
				r.logf("clean up %s: %v", v.Name, err)
			}
			delete(live, v.ID)
			continue
		}
		s := r.stack(v.Stack)
		if v.Running() {
			r.monitor(s, v)
		} else if v.Intent == runtime.IntentRun {
			r.tasks.Go(func() { r.ended(s, v) })
		}
	}
	if err := r.networks.Sweep(ctx, live); err != nil {
		errs = append(errs, fmt.Errorf("take over networks: %w", err))
	}
	return errors.Join(errs...)
}
