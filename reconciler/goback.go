package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// errNothingBefore means that a service was never anything else than what failed.
var errNothingBefore = errors.New("there is nothing to go back to")

// rollBack takes services whose rollout failed back to what they were, at once, by their rollback_config. It returns what
// they went back to. The caller holds the stack's operation.
func (r *Reconciler) rollBack(ctx context.Context, s *stack, desired *spec.Stack, failed []*rollout, sink Sink) (string, error) {
	var names []string
	for _, ro := range failed {
		names = append(names, ro.Service)
	}
	before, to, err := r.before(ctx, s, desired, names)
	if err != nil {
		return "", err
	}
	if sink != nil {
		for _, ro := range failed {
			event := Event{Kind: "warning", Address: spec.ServiceAddress(ro.Service).String(), Text: ro.why() + "; it goes back to " + to}
			(&execution{sink: sink}).emit(event)
		}
	}
	opts := UpOptions{
		Cause: Cause{By: "rollout", Command: "rollback", Ref: to},
		// An image is pulled where it is missing only: under its name there may be a newer one.
		Options: planner.Options{Services: names, NoDeps: true, RollBack: names, Pull: "missing", IgnoreOrphans: true},
	}
	plan, observed, err := r.planUp(ctx, before, opts.Options)
	if err != nil {
		return "", err
	}
	err = r.changeIntent(s, func(in *intent) {
		for _, name := range names {
			k := &keeping{}
			if img := observed.Images[before.Services[name].Image]; img != nil {
				k.Image = img.ID
			}
			in.Services[name] = k
		}
	})
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	failing := s.newest.Number
	s.mu.Unlock()
	revision, err := r.begin(s, before, observed, opts, 0)
	if err != nil {
		return "", err
	}
	_, err = r.converge(ctx, s, before, opts, plan, &revision, sink)
	switch {
	case err == nil:
		r.conclude(s, failing, RolledBack, failed[0].failure(to))
		r.conclude(s, revision, Converged, nil)
	case ctx.Err() == nil:
		r.conclude(s, revision, Failed, err)
	}
	return to, err
}

// before is a desired state in which some services are what they were before the present one, and what that was.
func (r *Reconciler) before(ctx context.Context, s *stack, desired *spec.Stack, services []string) (*spec.Stack, string, error) {
	out := *desired
	out.Services = maps.Clone(desired.Services)
	to := ""
	for _, name := range services {
		rev, err := r.revisionBefore(s, desired, name)
		if err != nil {
			return nil, "", err
		}
		old, image := r.containerBefore(s, desired, name)
		word := "what ran before"
		if rev != nil {
			old, image = rev.Stack.Services[name], rev.Images[name]
			word = fmt.Sprintf("revision %d", rev.Number)
			out.Networks = besides(out.Networks, rev.Stack.Networks)
			out.Volumes = besides(out.Volumes, rev.Stack.Volumes)
			out.Secrets = besides(out.Secrets, rev.Stack.Secrets)
			out.Configs = besides(out.Configs, rev.Stack.Configs)
		}
		if old == nil {
			return nil, "", fmt.Errorf("service %s: %w", name, errNothingBefore)
		}
		svc := *old
		now := desired.Services[name]
		svc.UpdateConfig, svc.RollbackConfig, svc.Policy = now.UpdateConfig, now.RollbackConfig, now.Policy
		if image.ID != "" {
			if svc.Image, err = r.pin(ctx, image, svc.Platform); err != nil {
				return nil, "", fmt.Errorf("service %s: %w", name, err)
			}
		}
		out.Services[name] = &svc
		to = word
	}
	return &out, to, nil
}

// revisionBefore is the newest revision that converged and in which the service was not what it is to be now; nil when none
// is kept.
func (r *Reconciler) revisionBefore(s *stack, desired *spec.Stack, service string) (*Revision, error) {
	all, err := r.Revisions(s.name)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	now := desired.Services[service]
	for _, rev := range all[1:] {
		if rev.Outcome != Converged {
			continue
		}
		if rev.Stack, err = r.readRevision(s.name, rev.Number); err != nil {
			return nil, err
		}
		old := rev.Stack.Services[service]
		if old == nil || old.Replicas == 0 {
			continue
		}
		moved := rev.Images[service].ID != all[0].Images[service].ID
		if moved || old.Digest() != now.Digest() {
			return &rev, nil
		}
	}
	return nil, nil
}

// containerBefore is what a container of the service was made from that the rollout has not replaced yet, and its image.
func (r *Reconciler) containerBefore(s *stack, desired *spec.Stack, service string) (*spec.Service, PinImage) {
	now := desired.Services[service]
	for _, v := range r.engine.Service(s.name, service) {
		if v.OneOff || v.Phase != runtime.Made || v.Succeeds != "" || v.Spec.Digest() == now.Digest() {
			continue
		}
		svc := v.Spec
		svc.Replicas = now.Replicas
		return &svc, PinImage{Image: svc.Image, ID: v.ImageID}
	}
	return nil, PinImage{}
}

// besides adds to what is declared now what was declared before.
func besides[T any](now, before map[string]*T) map[string]*T {
	all := maps.Clone(before)
	if all == nil {
		all = map[string]*T{}
	}
	maps.Copy(all, now)
	return all
}
