package reconciler

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// Back-off of restarts for ill health: as long as a container does not get well by them, they come at doubling distances.
// One that stays healthy for lastingHealth, or its restart policy's window where that is longer, starts over.
const (
	firstCure     = time.Second
	longestCure   = 5 * time.Minute
	lastingHealth = time.Minute
)

// cure is what is done about an unhealthy container: x-stack's bounds, completed by those of deploy.restart_policy.
func cure(svc *spec.Service) (spec.UnhealthyPolicy, bool) {
	if svc.Policy == nil || svc.Policy.Unhealthy == nil {
		return spec.UnhealthyPolicy{}, false
	}
	p := *svc.Policy.Unhealthy
	p.MaxAttempts = cmp.Or(p.MaxAttempts, svc.Restart.MaxAttempts)
	p.Delay = cmp.Or(p.Delay, svc.Restart.Delay)
	return p, true
}

// due is when the container is restarted because it is unhealthy; false: not at all.
func (m *monitoring) due(ctx context.Context) (time.Time, bool) {
	v, err := m.r.engine.Get(m.id)
	if err != nil {
		return time.Time{}, false
	}
	if v.Intent != runtime.IntentRun || v.State.Status != shim.Running { // stopped or paused by a user
		m.announce(ctx, time.Time{})
		return time.Time{}, false
	}
	if v.Healing { // a restart was begun, and the daemon that began it is gone
		return time.Now(), true
	}
	p, restarts := cure(&v.Spec)
	if m.health != planner.Unhealthy || !restarts || p.MaxAttempts > 0 && v.Ailing >= p.MaxAttempts {
		m.announce(ctx, time.Time{})
		return time.Time{}, false
	}
	delay := p.Delay
	if delay == 0 {
		delay = doubled(firstCure, longestCure, v.Ailing)
	}
	at := m.since.Add(delay)
	m.announce(ctx, at)
	return at, true
}

// doubled is a delay after a number of attempts, twice as long with each, up to the longest.
func doubled(first, longest time.Duration, attempts int) time.Duration {
	delay := first
	for range attempts {
		if delay *= 2; delay >= longest {
			return longest
		}
	}
	return delay
}

// announce tells when the next restart for ill health is.
func (m *monitoring) announce(ctx context.Context, at time.Time) {
	m.keeper.mu.Lock()
	news := ctx.Err() == nil && !m.keeper.nextCure.Equal(at)
	if news {
		m.keeper.nextCure = at
	}
	m.keeper.mu.Unlock()
	if news {
		m.stack.notify()
	}
}

// forgive forgets the restarts of a container that has been well for long enough.
func (m *monitoring) forgive(ctx context.Context) {
	v, err := m.r.engine.Get(m.id)
	if err != nil || v.Ailing == 0 || time.Since(m.since) < max(lastingHealth, v.Spec.Restart.Window) || ctx.Err() != nil {
		return
	}
	if err := m.r.engine.Update(m.id, func(rec *runtime.Record) { rec.Ailing = 0 }); err != nil {
		m.r.logf("health of %s: %v", m.name, err)
	}
}

// restartUnhealthy ends the container's process as a stop does, and leaves its start to what handles ends: the record says
// that it is due (Healing), whatever the restart policy, so that a daemon that dies in between leaves it to the next one.
// It returns false when there is nothing to restart.
func (r *Reconciler) restartUnhealthy(ctx context.Context, m *monitoring) bool {
	v, err := r.engine.Get(m.id)
	if err != nil || v.State.Status != shim.Running || v.Intent != runtime.IntentRun {
		return false
	}
	if !v.Healing {
		err = r.engine.Update(m.id, func(rec *runtime.Record) {
			if rec.Intent == runtime.IntentRun {
				rec.Healing, rec.Ailing = true, rec.Ailing+1
			}
		})
		if err != nil {
			r.logf("restart %s, which is unhealthy: %v", m.name, err)
			return false
		}
		r.logf("%s is unhealthy and is restarted, time %d since it was well", m.name, v.Ailing+1)
	}
	// The end of the run cancels ctx, and must not cancel what brings it about.
	stopping, cancel := r.begun(ctx)
	defer cancel()
	err = r.engine.End(stopping, m.id, r.preStop(stopping, stopRequest{id: m.id}))
	if err != nil && r.ctx.Err() == nil && !errors.Is(err, runtime.ErrStopped) && !isNotFound(err) {
		r.logf("restart %s, which is unhealthy: %v", m.name, err)
		return false
	}
	return true
}
