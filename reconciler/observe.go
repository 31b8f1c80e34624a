package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// observe looks at everything a plan for the stack depends on. Containers and their states are kept up to date by events;
// networks are looked up in the kernel; images and volumes in their stores. desired may be nil.
func (r *Reconciler) observe(ctx context.Context, name string, desired *spec.Stack) (*planner.Observed, error) {
	o := &planner.Observed{
		Stack:    name,
		Networks: map[string]*planner.Network{}, Volumes: map[string]*planner.Volume{}, Images: map[string]*planner.Image{},
		Foreign: map[string]string{}, TakenNames: map[string]string{}, Jobs: r.observeJobs(name),
	}
	if err := r.engine.Sync(ctx, name); err != nil {
		return nil, fmt.Errorf("stack %s: look at its containers: %w", name, err)
	}
	all := r.engine.List("")
	for _, v := range all {
		if v.Stack == name {
			o.Containers = append(o.Containers, r.observeContainer(v))
			continue
		}
		o.TakenNames[v.Name] = v.Stack + "/" + v.Service
		if v.Running() {
			o.Foreign[v.Name] = v.ID
		}
	}
	if err := r.observeNetworks(ctx, o, all); err != nil {
		return nil, err
	}
	if err := r.observeVolumes(o, all); err != nil {
		return nil, err
	}
	if desired == nil {
		return o, nil
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
		Stopped: v.Intent == runtime.IntentStop, Updating: v.Updating && v.Running(), HooksPending: v.HooksPending(),
		Due:      !v.Running() && (v.Intent == runtime.IntentHalt || shouldRestart(v) && r.stack(v.Stack).handed(v.ID)),
		Networks: map[string]string{}, Volumes: v.Volumes, Created: v.Created,
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

func (r *Reconciler) observeNetworks(ctx context.Context, o *planner.Observed, all []runtime.View) error {
	for _, n := range r.networks.List() {
		seen := &planner.Network{Name: n.Name, ID: n.ID, Stack: n.Stack, Digest: n.Labels[labelHash]}
		if n.Stack == o.Stack {
			drift, err := r.networks.Observe(ctx, n.Name)
			if err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
			seen.Drift = drift
		}
		for _, v := range all {
			if v.Stack != o.Stack && slices.ContainsFunc(v.Endpoints, func(ep netdriver.Endpoint) bool { return ep.Network == n.Name }) {
				seen.Users = append(seen.Users, v.Name)
			}
		}
		o.Networks[n.Name] = seen
	}
	return nil
}

func (r *Reconciler) observeVolumes(o *planner.Observed, all []runtime.View) error {
	volumes, err := r.volumes.List()
	if err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	for _, vol := range volumes {
		seen := &planner.Volume{Name: vol.Name, Stack: vol.Stack, Digest: vol.Labels[labelHash]}
		for _, v := range all {
			if v.Stack != o.Stack && slices.Contains(v.Volumes, vol.Name) {
				seen.Users = append(seen.Users, v.Name)
			}
		}
		o.Volumes[vol.Name] = seen
	}
	return nil
}

func (r *Reconciler) observeImages(ctx context.Context, o *planner.Observed, desired *spec.Stack) error {
	for _, svc := range desired.Services {
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
		o.Images[svc.Image] = &planner.Image{ID: img.ID, Digest: img.Digest, Pulled: img.Pulled, Stale: svc.PullAge > 0 && time.Since(img.Pulled) > svc.PullAge}
	}
	return nil
}

func isNotFound(err error) bool {
	return errors.Is(err, voldriver.ErrNotFound) || errors.Is(err, netdriver.ErrNotFound) || errors.Is(err, runtime.ErrNotFound) || errors.Is(err, image.ErrNotFound)
}
