package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// disconnect takes down the network of a container without a process, gives back its volumes and lets its shim forget it.
// The caller holds the keeper's life.
func (r *Reconciler) disconnect(ctx context.Context, id string) error {
	v, err := r.engine.Get(id)
	if err != nil || v.Running() {
		return nil
	}
	r.stack(v.Stack).findings.drop(id)
	if v.Connected != "" {
		if err := r.links.disconnect(netdriver.Sandbox{ContainerID: id, Netns: v.State.Netns, Endpoints: v.Endpoints}); err != nil {
			return err
		}
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Connected = "" }); err != nil {
			return err
		}
	}
	if err := r.volumes.ReleaseUser(ctx, id); err != nil {
		return err
	}
	return r.engine.Release(ctx, id)
}

// finish gives back what a container that ended for good still holds, and removes one that was made for a single run. The
// caller holds k.life.
func (r *Reconciler) finish(ctx context.Context, s *stack, k *keeper, v runtime.View) error {
	if v.AutoRemove && !v.State.Started.IsZero() {
		return r.remove(ctx, s, k, v, true)
	}
	return r.disconnect(ctx, v.ID)
}

// stopRequest is one container to stop.
type stopRequest struct {
	id    string
	grace *time.Duration
	warn  func(string) // may be nil
	halt  bool         // something is started in its place
}

var zero time.Duration

// stopContainer ends a container for good, as far as this operation goes.
func (r *Reconciler) stopContainer(ctx context.Context, a stopRequest) error {
	v, err := r.engine.Get(a.id)
	if err != nil {
		return nil // gone already
	}
	s := r.stack(v.Stack)
	k := s.keeper(a.id)
	end := r.engine.Stop
	if a.halt {
		end = r.engine.Halt
	}
	if err := end(ctx, a.id, r.preStop(ctx, a)); err != nil && !isNotFound(err) {
		return err
	}
	defer s.notify()
	k.life.Lock()
	defer k.life.Unlock()
	k.rest()
	if v, err = r.engine.Get(a.id); err != nil {
		s.drop(a.id) // it was made for a single run
		return nil
	}
	if v.Running() {
		return nil // somebody started it meanwhile
	}
	return r.finish(ctx, s, k, v)
}

// removeContainer deletes a container that has no process, with volumes its anonymous volumes too.
func (r *Reconciler) removeContainer(ctx context.Context, id string, volumes bool) error {
	v, err := r.engine.Get(id)
	if err != nil {
		return nil // gone already
	}
	s := r.stack(v.Stack)
	k := s.keeper(id)
	k.life.Lock()
	defer k.life.Unlock()
	if v, err = r.engine.Get(id); err != nil {
		s.drop(id)
		return nil
	}
	return r.remove(ctx, s, k, v, volumes)
}

// remove is removeContainer for who holds k.life.
func (r *Reconciler) remove(ctx context.Context, s *stack, k *keeper, v runtime.View, volumes bool) error {
	if v.Running() {
		return fmt.Errorf("remove container %s: %w; stop it first", v.Name, runtime.ErrRunning)
	}
	if err := r.removeInits(ctx, v); err != nil {
		return err
	}
	k.rest()
	anonymous := disposable(v, volumes)
	err := r.engine.Update(v.ID, func(rec *runtime.Record) {
		// A removal that a crash interrupts goes on with the same volumes.
		rec.Phase, rec.DropVolumes, rec.Anonymous = runtime.Removing, true, anonymous
	})
	if err != nil {
		return err
	}
	if err := r.disconnect(ctx, v.ID); err != nil {
		return err
	}
	err = r.engine.Remove(ctx, v.ID, func(runtime.View) error {
		r.networks.Release(v.ID)
		return r.removeVolumes(ctx, v.ID, anonymous)
	})
	if err != nil {
		return err
	}
	s.drop(v.ID)
	s.notify()
	return nil
}

// disposable are the volumes that go with a container: what it shares as /dev/shm always does, its anonymous volumes when
// that is asked for. A half-made one takes along only those made for it: it may have been about to take over another's data.
func disposable(v runtime.View, volumes bool) []string {
	shm := voldriver.AnonymousName(v.Stack, v.ID, "/dev/shm")
	if v.Phase != runtime.Making {
		return slices.DeleteFunc(slices.Clone(v.Anonymous), func(name string) bool { return !volumes && name != shm })
	}
	var names []string
	for _, m := range v.MountSpecs {
		if m.Type == spec.MountVolume && m.Source == "" {
			names = append(names, voldriver.AnonymousName(v.Stack, v.ID, m.Target))
		}
	}
	return names
}

// removeVolumes removes volumes unless a container other than owner mounts them.
func (r *Reconciler) removeVolumes(ctx context.Context, owner string, names []string) error {
	for _, name := range names {
		if len(r.volumeUsers(name, owner)) > 0 {
			continue // another container took it over
		}
		if err := r.volumes.Remove(ctx, name); err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// volumeUsers are the names of the containers that mount a volume, but for one.
func (r *Reconciler) volumeUsers(name, except string) []string {
	var users []string
	for _, v := range r.engine.List("") {
		if v.ID != except && slices.Contains(v.Volumes, name) {
			users = append(users, v.Name)
		}
	}
	return users
}
