package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
)

// Who of a service's containers takes new connections follows what they are, at all times: those that are unhealthy,
// paused, between two runs, or not ready yet get none while another one can take them. A container that was drained gets none.

// readiness is what a container's should be now.
func readiness(v runtime.View) netdriver.Readiness {
	switch {
	case v.Drained:
		return netdriver.Drained
	case v.Standby, v.State.Status != shim.Running, v.Health == planner.Starting, v.Health == planner.Unhealthy:
		return netdriver.Standby
	}
	return netdriver.Serving
}

// recorded is the readiness in a container's record, which the next daemon restores.
func recorded(v runtime.View) netdriver.Readiness {
	for _, ep := range v.Endpoints {
		return ep.Readiness
	}
	return netdriver.Serving
}

// peers are the containers among which new connections to a service are shared out.
func (r *Reconciler) peers(s *stack, service string) []runtime.View {
	return slices.DeleteFunc(r.engine.Service(s.name, service), func(v runtime.View) bool {
		return v.OneOff || v.Phase != runtime.Made || v.NetMode != runtime.NetPrivate
	})
}

// shareOut brings the readiness of a service's containers up to what they are. For one that is alone it makes no
// difference whether it serves or stands by.
func (r *Reconciler) shareOut(ctx context.Context, s *stack, service string) error {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	peers := r.peers(s, service)
	changes := map[string]netdriver.Readiness{}
	for _, v := range peers {
		want, have := readiness(v), recorded(v)
		if want == have || len(peers) == 1 && want != netdriver.Drained && have != netdriver.Drained {
			continue
		}
		err := r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Endpoints = withReadiness(rec.Endpoints, want) })
		if err != nil {
			return err
		}
		changes[v.ID] = want
	}
	if len(changes) == 0 {
		return nil
	}
	if err := r.networks.SetReadiness(ctx, changes); err != nil {
		return fmt.Errorf("service %s: share out its connections: %w", service, err)
	}
	return nil
}

func withReadiness(endpoints []netdriver.Endpoint, want netdriver.Readiness) []netdriver.Endpoint {
	out := slices.Clone(endpoints)
	for i := range out {
		out[i].Readiness = want
	}
	return out
}

// retraffic is shareOut for who has nobody to tell of a failure.
func (r *Reconciler) retraffic(s *stack, service string) {
	if err := r.shareOut(r.ctx, s, service); err != nil && r.ctx.Err() == nil {
		r.logf("%v", err)
	}
}

// standIn decides, before a container starts, whether it has to become ready before it serves: where others of its service
// do, or where it is to take the place of one.
func (r *Reconciler) standIn(s *stack, v runtime.View) error {
	standby := v.Succeeds != ""
	for _, other := range r.peers(s, v.Service) {
		standby = standby || other.ID != v.ID && other.State.Status == shim.Running
	}
	standby = standby && v.NetMode == runtime.NetPrivate && !v.OneOff
	if v.Standby == standby && !v.Drained {
		return nil
	}
	return r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Standby, rec.Drained = standby, false })
}

// atFirst is the readiness with which a container starts.
func (r *Reconciler) atFirst(ctx context.Context, v runtime.View) netdriver.Readiness {
	if _, checked := r.healthcheck(ctx, v); checked || v.Standby {
		return netdriver.Standby
	}
	return netdriver.Serving
}

// arrive lets a container that runs serve as soon as it is ready. Successors do so when the plan says it; those with a
// health check when they are healthy.
func (r *Reconciler) arrive(s *stack, v runtime.View) {
	if !r.awaited(s, v) {
		return
	}
	k := s.keeper(v.ID)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.arriving {
		return
	}
	k.arriving = true
	r.spawn(func() {
		defer func() {
			k.mu.Lock()
			k.arriving = false
			k.mu.Unlock()
		}()
		if r.ready(r.ctx, &placement{id: v.ID, restarts: v.Restarts}, nil) != nil {
			return // its next start arrives anew
		}
		if err := r.serve(r.ctx, v.ID); err != nil && r.ctx.Err() == nil {
			r.logf("%s: %v", v.Name, err)
		}
	})
}

// healthChanged lets a container serve, or not, by what its health check says now.
func (r *Reconciler) healthChanged(s *stack, id string) {
	v, err := r.engine.Get(id)
	switch {
	case err != nil: // removed meanwhile
	case v.Health == planner.Healthy && r.awaited(s, v):
		if err := r.serve(r.ctx, id); err != nil && r.ctx.Err() == nil {
			r.logf("%s: %v", v.Name, err)
		}
	default:
		r.retraffic(s, v.Service)
	}
}

// awaited tells whether something depends on the container becoming ready.
func (r *Reconciler) awaited(s *stack, v runtime.View) bool {
	if v.Succeeds != "" || !v.Running() {
		return false
	}
	return v.Standby || r.endsHold(s, v)
}

// serve lets a container that is ready take its share of new connections.
func (r *Reconciler) serve(ctx context.Context, id string) error {
	v, err := r.engine.Get(id)
	if err != nil {
		return err
	}
	s := r.stack(v.Stack)
	if v.Standby || v.Drained {
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Standby, rec.Drained = false, false }); err != nil {
			return err
		}
	}
	if err := r.shareOut(ctx, s, v.Service); err != nil {
		return err
	}
	return r.unhold(ctx, s, v.Service)
}

// drain keeps new connections away from a container and waits for those that it has, for grace at most.
func (r *Reconciler) drain(ctx context.Context, id string, grace *time.Duration) error {
	v, err := r.engine.Get(id)
	if err != nil {
		return ignoreNotFound(err)
	}
	if !v.Drained {
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Drained = true }); err != nil {
			return err
		}
	}
	if err := r.shareOut(ctx, r.stack(v.Stack), v.Service); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, stopGrace(v, grace))
	defer cancel()
	if err := r.networks.WaitDrained(bounded, id); err != nil && bounded.Err() == nil {
		return err
	}
	return ctx.Err()
}

// holding are containers at whose ports new connections wait, and since when.
type holding struct {
	ids   []string
	since time.Time
}

// holdMargin is how much longer than a stop new connections wait at most: for the next container to be made and ready.
const holdMargin = 30 * time.Second

// hold makes new connections to a container's ports wait until another one of its service serves; the kernel ends it in
// any case.
func (r *Reconciler) hold(ctx context.Context, id string, grace *time.Duration) error {
	v, err := r.engine.Get(id)
	if err != nil {
		return ignoreNotFound(err)
	}
	s := r.stack(v.Stack)
	s.mu.Lock()
	if s.held == nil {
		s.held = map[string]holding{}
	}
	s.held[v.Service] = holding{append(slices.Clone(s.held[v.Service].ids), id), time.Now()}
	s.mu.Unlock()
	if err := r.networks.Hold(ctx, []string{id}, stopGrace(v, grace)+holdMargin); err != nil {
		return err
	}
	awaitAccepts(ctx, v)
	return nil
}

// endsHold tells whether new connections wait for the container: it was started after those that they were for.
func (r *Reconciler) endsHold(s *stack, v runtime.View) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, held := s.held[v.Service]
	return held && v.State.Started.After(h.since)
}

// unhold lets connections through again.
func (r *Reconciler) unhold(ctx context.Context, s *stack, service string) error {
	s.mu.Lock()
	ids := s.held[service].ids
	delete(s.held, service)
	s.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return r.networks.Unhold(ctx, ids)
}

// stopGrace is how long a stop waits for the container to end by itself.
func stopGrace(v runtime.View, asked *time.Duration) time.Duration {
	switch {
	case asked != nil:
		return *asked
	case v.Spec.StopGrace != nil:
		return *v.Spec.StopGrace
	}
	return runtime.DefaultStopGrace
}

// resumeTraffic brings readiness up to what happened while no daemon ran.
func (r *Reconciler) resumeTraffic() {
	services := map[string]map[string]bool{}
	for _, v := range r.engine.List("") {
		if services[v.Stack] == nil {
			services[v.Stack] = map[string]bool{}
		}
		services[v.Stack][v.Service] = true
	}
	for name, all := range services {
		for service := range all {
			r.retraffic(r.stack(name), service)
		}
	}
}
