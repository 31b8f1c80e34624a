package reconciler

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// preStart runs pre_start hooks for a container that was made and not started yet, in their order. What has succeeded for it is
// not run again, and one at work, which an earlier daemon or a client that went away has left, is waited for.
func (x *execution) preStart(ctx context.Context, a planner.Action) error {
	svc := x.service(a.Service)
	if svc == nil {
		return fmt.Errorf("service %s is not in the stack file", a.Service)
	}
	perReplica := a.Address == spec.ReplicaAddress(a.Service, a.Replica).String()
	a.Address = spec.ReplicaAddress(a.Service, a.Replica).String() // by which the container is known
	target, err := x.r.engine.Get(x.container(a))
	if err != nil {
		return err
	}
	for _, place := range svc.PreStartHooks(perReplica) {
		if err := x.runInit(ctx, svc, target, place); err != nil {
			return err
		}
	}
	return nil
}

// runInit runs one hook in a container of its own.
func (x *execution) runInit(ctx context.Context, svc *spec.Service, target runtime.View, place int) error {
	r := x.r
	v, found, err := r.initContainer(ctx, target, place)
	if err != nil || found && succeeded(v) {
		return err
	}
	if !found {
		making, end := r.begun(ctx)
		defer end()
		if v, err = r.createContainer(making, x.initCreation(svc, target, place)); err != nil {
			return err
		}
	}
	if !v.Running() {
		starting, end := r.begun(ctx)
		defer end()
		if err := r.startContainer(starting, v.ID, startOptions{}); err != nil {
			return &ContainerError{Container: v, Reason: "can't start", Err: err}
		}
	}
	wait, err := r.engine.Waiter(v.ID)
	if err != nil {
		return err
	}
	if _, err := wait(ctx); err != nil {
		return err
	}
	if v, err = r.engine.Get(v.ID); err != nil || succeeded(v) {
		return err
	}
	reason := fmt.Sprintf("failed: the %s hook %q exited with status %d", spec.PreStart, commandOf(&svc.PreStart[place].Service), v.State.ExitCode)
	if v.State.Error != "" {
		reason += " (" + v.State.Error + ")"
	}
	return &ContainerError{Container: v, Reason: reason, Err: ErrHook}
}

// initContainer finds the container of a hook. One that failed, or is half-made, is removed: the hook is run anew.
func (r *Reconciler) initContainer(ctx context.Context, target runtime.View, place int) (runtime.View, bool, error) {
	for _, v := range r.initContainers(target) {
		switch {
		case v.InitOf.Place != place:
		case v.Phase == runtime.Made && (v.Running() || succeeded(v) || v.State.Started.IsZero()):
			return v, true, nil
		default:
			if err := r.removeContainer(ctx, v.ID, true); err != nil {
				return v, false, err
			}
		}
	}
	return runtime.View{}, false, nil
}

// initContainers are those that ran pre_start hooks for a container. They are kept as long as it is, for their output.
func (r *Reconciler) initContainers(target runtime.View) []runtime.View {
	var all []runtime.View
	for _, v := range r.engine.Service(target.Stack, target.Service) {
		if v.InitOf != nil && v.InitOf.ID == target.ID {
			all = append(all, v)
		}
	}
	return all
}

func succeeded(v runtime.View) bool {
	return v.State.Status == shim.Exited && v.State.ExitCode == 0 && v.State.Error == ""
}

// initCreation is the container of a hook: the hook's own mounts and those of the container that it prepares, the networks with
// addresses of its own, and no names, which are the service's.
func (x *execution) initCreation(svc *spec.Service, target runtime.View, place int) creation {
	hook := svc.PreStart[place].Service
	own := map[string]bool{}
	for _, m := range hook.Mounts {
		own[m.Target] = true
	}
	mounts := append([]spec.Mount(nil), hook.Mounts...)
	for i, m := range target.MountSpecs {
		if own[m.Target] || i >= len(target.Mounts) {
			continue
		}
		if m.Type == spec.MountVolume {
			m.Source = target.Mounts[i].Volume
		}
		mounts = append(mounts, m)
	}
	hook.Mounts = mounts
	networks := make(map[string]*spec.Attachment, len(hook.Networks))
	for key, a := range hook.Networks {
		networks[key] = nil
		if a != nil {
			networks[key] = &spec.Attachment{InterfaceName: a.InterfaceName, Priority: a.Priority, GwPriority: a.GwPriority}
		}
	}
	hook.Networks, hook.MacAddress = networks, ""
	return creation{
		stack: x.desired, service: &hook, name: target.Name + "-" + strings.ReplaceAll(spec.PreStart, "_", "-") + "-" + strconv.Itoa(place+1),
		replica: target.Replica, oneOff: true, noPorts: true, noAliases: true, initOf: &runtime.InitOf{ID: target.ID, Name: target.Name, Place: place},
	}
}

func commandOf(svc *spec.Service) string {
	var words []string
	for _, list := range []*[]string{svc.Entrypoint, svc.Command} {
		if list != nil {
			words = append(words, *list...)
		}
	}
	return strings.Join(words, " ")
}

// removeInits removes the containers of the pre_start hooks of one that goes.
func (r *Reconciler) removeInits(ctx context.Context, target runtime.View) error {
	if target.InitOf != nil || len(target.Spec.PreStart) == 0 {
		return nil
	}
	for _, v := range r.initContainers(target) {
		if err := r.stopContainer(ctx, stopRequest{id: v.ID, grace: &zero}); err != nil {
			return err
		}
		if err := r.removeContainer(ctx, v.ID, true); err != nil {
			return err
		}
	}
	return nil
}

// prepared records that a container's pre_start hooks have run, as the plan has it before a start.
func (r *Reconciler) prepared(id string) error {
	v, err := r.engine.Get(id)
	if err != nil || len(v.Spec.PreStart) == 0 || v.Initialized {
		return err
	}
	return r.engine.Update(id, func(rec *runtime.Record) { rec.Initialized = true })
}
