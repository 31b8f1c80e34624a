package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// observe looks at what a plan for the stack depends on. Containers and their states are kept up to date by events, and asked
// for once more; networks are looked up in the kernel; images and volumes in their stores. desired may be nil.
func (r *Reconciler) observe(ctx context.Context, name string, desired *spec.Stack) (*planner.Observed, error) {
	if err := r.engine.Sync(ctx, name); err != nil {
		return nil, fmt.Errorf("stack %s: look at its containers: %w", name, err)
	}
	return r.look(ctx, name, desired)
}

// look is observe for who is woken by the events that bring containers up to date.
func (r *Reconciler) look(ctx context.Context, name string, desired *spec.Stack) (*planner.Observed, error) {
	o := &planner.Observed{
		Stack:    name,
		Networks: map[string]*planner.Network{}, Volumes: map[string]*planner.Volume{}, Images: map[string]*planner.Image{},
		Foreign: map[string]string{}, TakenNames: map[string]string{}, Paused: map[string]string{}, Jobs: r.observeJobs(name),
	}
	all := r.engine.List("")
	var own []runtime.View
	for _, v := range all {
		if v.Stack == name {
			own = append(own, v)
			continue
		}
		o.TakenNames[v.Name] = v.Stack + "/" + v.Service
		if v.Running() {
			o.Foreign[v.Name] = v.ID
		}
	}
	if err := r.observeNetworks(ctx, o, desired, all); err != nil {
		return nil, err
	}
	if err := r.observeVolumes(o, desired, own); err != nil {
		return nil, err
	}
	s := r.stack(name)
	for _, v := range own {
		c := r.observeContainer(v)
		r.drift(s, v, o.Networks, &c)
		o.Containers = append(o.Containers, c)
	}
	if desired == nil {
		return o, nil
	}
	paused, err := r.Paused(name)
	if err != nil {
		r.logf("%v", err) // a stack is not lost for that: at worst the loop goes on with a rollout that failed
	}
	for service, p := range paused {
		o.Paused[service] = p.Why
	}
	if err := r.observeReferences(o, desired); err != nil {
		return nil, err
	}
	return o, r.observeImages(ctx, o, desired)
}

func (r *Reconciler) observeContainer(v runtime.View) planner.Container {
	c := planner.Container{
		ID: v.ID, Name: v.Name, Service: v.Service, Replica: v.Replica, OneOff: v.OneOff, Spec: v.Spec,
		ImageID: v.ImageID, State: r.state(v), Health: v.Health, ExitCode: v.State.ExitCode,
		Stopped: v.Intent == runtime.IntentStop, Updating: v.Updating && v.Running(), HooksPending: v.HooksPending(), Initialized: v.Initialized,
		Due:      !v.Running() && (v.Intent == runtime.IntentHalt || shouldRestart(v) && r.stack(v.Stack).handed(v.ID)),
		Broken:   broken(v),
		Networks: map[string]string{}, Volumes: v.Volumes, Created: v.Created,
		Succeeds: v.Succeeds, Drained: v.Drained,
	}
	if v.JobRun != nil {
		c.Job = v.JobRun.Job
	}
	for _, ep := range v.Endpoints {
		if n, err := r.networks.Get(ep.Network); err == nil {
			c.Networks[ep.Network] = n.ID
		} else {
			c.Networks[ep.Network] = "" // the network is gone from under it
		}
	}
	for _, id := range []string{v.NetOf, v.PIDOf, v.IPCOf} {
		if id != "" && !slices.Contains(c.NamespaceOf, id) {
			c.NamespaceOf = append(c.NamespaceOf, id)
		}
	}
	return c
}

// observeNetworks looks at the networks that the stack made or asks for; in the kernel at those it made.
func (r *Reconciler) observeNetworks(ctx context.Context, o *planner.Observed, desired *spec.Stack, all []runtime.View) error {
	asked := map[string]bool{}
	if desired != nil {
		for _, n := range desired.Networks {
			asked[n.Name] = true
		}
	}
	for _, n := range r.networks.List() {
		if n.Stack != o.Stack && !asked[n.Name] {
			continue
		}
		seen := &planner.Network{Name: n.Name, ID: n.ID, Stack: n.Stack, Digest: n.Labels[labelHash]}
		if n.Stack == o.Stack {
			drift, err := r.networks.Observe(ctx, n.Name)
			if err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
			seen.Drift = drift
		}
		o.Networks[n.Name] = seen
	}
	for _, v := range all {
		if v.Stack == o.Stack {
			continue
		}
		for _, ep := range v.Endpoints {
			if n := o.Networks[ep.Network]; n != nil && !slices.Contains(n.Users, v.Name) {
				n.Users = append(n.Users, v.Name)
			}
		}
	}
	return nil
}

// observeVolumes looks at the volumes that the stack asks for or mounts.
func (r *Reconciler) observeVolumes(o *planner.Observed, desired *spec.Stack, own []runtime.View) error {
	mounted, used, declared := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range own {
		for _, name := range v.Volumes {
			mounted[name] = true
			used[name] = used[name] || v.Running()
		}
	}
	names := maps.Clone(mounted)
	if desired != nil {
		for _, v := range desired.Volumes {
			names[v.Name], declared[v.Name] = true, !v.External
		}
	}
	for name := range names {
		seen := &planner.Volume{Name: name, Stack: o.Stack}
		vol, err := r.volumes.Get(name)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil {
			seen.Stack, seen.Digest = vol.Stack, vol.Labels[labelHash]
		}
		if mounted[name] {
			condition, err := r.volumes.Observe(name, used[name])
			if err != nil {
				return err
			}
			seen.Drift, seen.Damage = condition.Drift, condition.Damage
		}
		// One without a record is none, unless it has data that the stack file knows a record for.
		if err == nil || declared[name] && len(seen.Drift) > 0 {
			o.Volumes[name] = seen
		}
	}
	return nil
}

// observeOwned completes what was observed by who uses the volumes, and by those that the stack made and has no word for now:
// what goes with a down.
func (r *Reconciler) observeOwned(o *planner.Observed) error {
	volumes, err := r.volumes.List()
	if err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	for _, vol := range volumes {
		if vol.Stack == o.Stack && o.Volumes[vol.Name] == nil {
			o.Volumes[vol.Name] = &planner.Volume{Name: vol.Name, Stack: vol.Stack, Digest: vol.Labels[labelHash]}
		}
	}
	for _, v := range r.engine.List("") {
		if v.Stack == o.Stack {
			continue
		}
		for _, name := range v.Volumes {
			if seen := o.Volumes[name]; seen != nil {
				seen.Users = append(seen.Users, v.Name)
			}
		}
	}
	return nil
}

func (r *Reconciler) observeImages(ctx context.Context, o *planner.Observed, desired *spec.Stack) error {
	services := slices.Collect(maps.Values(desired.Services))
	for _, svc := range desired.Services {
		for i := range svc.PreStart {
			services = append(services, &svc.PreStart[i].Service)
		}
	}
	for _, svc := range services {
		if svc.Image == "" || o.Images[svc.Image] != nil {
			continue
		}
		img, err := r.images.Get(ctx, svc.Image, svc.Platform)
		if errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrPlatform) {
			continue
		}
		if err != nil {
			return fmt.Errorf("service %s: %w", svc.Name, err)
		}
		o.Images[svc.Image] = &planner.Image{
			ID: img.ID, Digest: img.Digest, Pulled: img.Pulled, Volumes: slices.Sorted(maps.Keys(img.Config.Volumes)),
			Stale: svc.PullAge > 0 && time.Since(img.Pulled) > svc.PullAge}
	}
	return nil
}

func isNotFound(err error) bool {
	return errors.Is(err, voldriver.ErrNotFound) || errors.Is(err, netdriver.ErrNotFound) || errors.Is(err, runtime.ErrNotFound) || errors.Is(err, image.ErrNotFound)
}
