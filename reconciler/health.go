package reconciler

import (
	"cmp"
	"context"
	"hash/fnv"
	"strings"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// Defaults of health checks, as in Docker.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// firstProbe is when a started container is probed for the first time. Probes before the first regular one come at
// doubling distances and count only when they succeed: a service that is ready at once need not wait an interval to be
// called healthy, and one that is not loses nothing.
const firstProbe = 200 * time.Millisecond

// healthcheck is a service's health check with everything filled in.
type healthcheck struct {
	args                                          []string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
}

// healthcheck returns the check of a container: the file's, completed by the image's.
func (r *Reconciler) healthcheck(ctx context.Context, v runtime.View) (healthcheck, bool) {
	img, err := r.engine.Image(ctx, v.ImageID)
	if err != nil {
		r.logf("health check of the image of %s: %v", v.Name, err)
	}
	return mergeHealthcheck(v.Spec.Healthcheck, img.Config.Healthcheck)
}

// mergeHealthcheck completes the file's check by the image's and the defaults; false when there is none.
func mergeHealthcheck(own *spec.Healthcheck, ofImage *image.Healthcheck) (healthcheck, bool) {
	if own == nil {
		own = &spec.Healthcheck{}
	}
	if ofImage == nil {
		ofImage = &image.Healthcheck{}
	}
	test := own.Test
	if len(test) == 0 {
		test = ofImage.Test
	}
	if own.Disable || len(test) == 0 || test[0] == "NONE" {
		return healthcheck{}, false
	}
	h := healthcheck{
		interval:      cmp.Or(own.Interval, ofImage.Interval, defaultInterval),
		timeout:       cmp.Or(own.Timeout, ofImage.Timeout, defaultTimeout),
		startPeriod:   cmp.Or(own.StartPeriod, ofImage.StartPeriod),
		startInterval: cmp.Or(own.StartInterval, ofImage.StartInterval, defaultStartInterval),
		retries:       cmp.Or(own.Retries, ofImage.Retries, defaultRetries),
	}
	switch test[0] {
	case "CMD":
		h.args = test[1:]
	case "CMD-SHELL":
		h.args = []string{"/bin/sh", "-c", strings.Join(test[1:], " ")}
	default:
		h.args = []string{"/bin/sh", "-c", strings.Join(test, " ")}
	}
	return h, len(h.args) > 0
}

// monitor probes a running container by its health check until it ends. Monitoring a monitored container does nothing.
func (r *Reconciler) monitor(s *stack, v runtime.View) {
	check, ok := r.healthcheck(r.ctx, v)
	if !ok {
		r.arrive(s, v)
		return
	}
	k := s.keeper(v.ID)
	k.mu.Lock()
	if k.health != nil {
		k.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	k.health = cancel
	k.probes.open(v.Dir, v.State.Started)
	m := &monitoring{
		r: r, stack: s, keeper: k, check: check, id: v.ID, name: v.Name, started: v.State.Started,
		health: v.Health, since: time.Now(), failures: k.probes.Streak, early: firstProbe, spread: spread(v.ID, check.interval),
	}
	k.mu.Unlock()
	if m.health == planner.NoHealth {
		m.set(ctx, planner.Starting)
	}
	r.spawn(func() { m.run(ctx) })
	if v.Health == planner.Healthy {
		r.arrive(s, v) // who recorded that may not have come to let it serve
	}
}

// monitoring is the health check of one run of a container.
type monitoring struct {
	r        *Reconciler
	stack    *stack
	keeper   *keeper
	check    healthcheck
	id, name string
	started  time.Time
	health   string
	failures int // in a row, those that count
	early    time.Duration
	spread   time.Duration // taken off one interval
	since    time.Time     // when it became so
}

// run is Docker's state machine: a success makes healthy; `retries` failures in a row make unhealthy. In the start period
// failures count only after a first success.
func (m *monitoring) run(ctx context.Context) {
	defer m.keeper.flush(ctx)
	for {
		delay, counts := m.next()
		var restart <-chan time.Time
		if due, ok := m.due(ctx); ok {
			restart = time.After(time.Until(due))
		}
		select {
		case <-time.After(delay):
		case <-restart:
			if ctx.Err() != nil {
				return // both had come
			}
			if m.r.restartUnhealthy(ctx, m) {
				return
			}
			select {
			case <-time.After(firstCure): // refused, by a full disk say
			case <-ctx.Done():
				return
			}
			continue
		case <-ctx.Done():
			return
		}
		current, err := m.r.engine.Get(m.id)
		if err != nil || !current.Running() {
			return
		}
		if current.State.Status == shim.Paused {
			continue
		}
		inPeriod := m.inPeriod()
		result := m.r.probeOnce(ctx, m.id, m.check)
		if current, err = m.r.engine.Get(m.id); ctx.Err() != nil || err != nil || !current.Running() {
			return
		}
		if current.State.Status == shim.Paused {
			continue // it was paused under the probe, which says nothing then
		}
		m.judge(ctx, result, counts && !inPeriod)
	}
}

func (m *monitoring) inPeriod() bool {
	return m.health == planner.Starting && time.Since(m.started) < m.check.startPeriod
}

// next is when to probe again, and whether a failure counts then.
func (m *monitoring) next() (delay time.Duration, counts bool) {
	delay = m.check.interval
	if m.inPeriod() {
		delay = min(delay, m.check.startInterval)
	}
	if m.health != planner.Healthy && m.early < delay && time.Since(m.started) < delay {
		delay = m.early
		m.early *= 2
		return delay, false
	}
	if m.health == planner.Healthy {
		delay -= m.spread
		m.spread = 0
	}
	return delay, true
}

// spread is what is taken off a container's first full interval, so that containers that were started together, or found
// by a new daemon, are not all probed at the same moments from then on.
func spread(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	return time.Duration(float64(interval) / 2 * float64(h.Sum64()>>11) / (1 << 53))
}

// judge takes a result into account.
func (m *monitoring) judge(ctx context.Context, p Probe, counts bool) {
	healthy := p.ok()
	switch {
	case healthy:
		m.failures = 0
	case counts:
		m.failures++
	}
	m.keeper.keep(ctx, p, m.failures)
	switch {
	case healthy && m.health != planner.Healthy:
		m.set(ctx, planner.Healthy)
	case healthy:
		m.forgive(ctx)
	case m.failures >= m.check.retries && m.health != planner.Unhealthy:
		m.r.logf("%s is unhealthy: %s", m.name, p)
		m.set(ctx, planner.Unhealthy)
	}
}

// set records the health of this run; the run that came after it has its own.
func (m *monitoring) set(ctx context.Context, health string) {
	m.keeper.mu.Lock()
	if ctx.Err() != nil {
		m.keeper.mu.Unlock()
		return
	}
	m.health, m.since = health, time.Now()
	err := m.r.engine.Update(m.id, func(rec *runtime.Record) { rec.Health = health })
	m.keeper.mu.Unlock()
	if err != nil {
		m.r.logf("health of %.12s: %v", m.id, err)
	}
	m.stack.notify()
	m.r.healthChanged(m.stack, m.id)
}

func (r *Reconciler) probeOnce(ctx context.Context, id string, check healthcheck) Probe {
	p := Probe{Start: time.Now()}
	var err error
	if p.ExitCode, p.Output, err = r.engine.Probe(ctx, id, check.args, check.timeout); err != nil {
		p.Failure = err.Error()
	}
	p.End = time.Now()
	return p
}

// stopProbes ends the health check; a restart that is due stays so.
func (k *keeper) stopProbes() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endProbes()
}

// endProbes is stopProbes for who holds mu.
func (k *keeper) endProbes() {
	if k.health != nil {
		k.health()
		k.health = nil
	}
}
