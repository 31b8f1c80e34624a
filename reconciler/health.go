package reconciler

import (
	"cmp"
	"context"
	"strconv"
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
	k.mu.Unlock()
	if v.Health == planner.NoHealth {
		r.setHealth(ctx, s, k, v.ID, planner.Starting)
	}
	r.spawn(func() { r.probe(ctx, s, k, v, check) })
}

// probe is Docker's state machine: a success makes healthy; `retries` failures in a row make unhealthy. In the start period
// failures count only after a first success.
func (r *Reconciler) probe(ctx context.Context, s *stack, k *keeper, v runtime.View, check healthcheck) {
	health, failures := v.Health, 0
	if health == planner.NoHealth {
		health = planner.Starting
	}
	started := v.State.Started
	early := firstProbe
	for {
		starting := health == planner.Starting && time.Since(started) < check.startPeriod
		delay := check.interval
		if starting {
			delay = min(delay, check.startInterval)
		}
		counts := true
		if health != planner.Healthy && early < delay && time.Since(started) < delay {
			delay, counts = early, false
			early *= 2
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		if current, err := r.engine.Get(v.ID); err != nil || !current.Running() {
			return
		} else if current.State.Status == shim.Paused {
			continue
		}
		inPeriod := health == planner.Starting && time.Since(started) < check.startPeriod
		result := r.probeOnce(ctx, v.ID, check)
		if ctx.Err() != nil {
			return
		}
		k.keep(ctx, result)
		switch {
		case result.ok():
			failures = 0
			if health != planner.Healthy {
				health = planner.Healthy
				r.setHealth(ctx, s, k, v.ID, health)
			}
		case counts && !inPeriod:
			if failures++; failures >= check.retries && health != planner.Unhealthy {
				health = planner.Unhealthy
				r.logf("%s is unhealthy: %s", v.Name, result)
				r.setHealth(ctx, s, k, v.ID, health)
			}
		}
	}
}

// Probe is one result of a health check.
type Probe struct {
	Start, End time.Time
	ExitCode   int
	Output     string // its first bytes
	Err        error  // why there is no exit code
}

func (p Probe) ok() bool { return p.Err == nil && p.ExitCode == 0 }

// String is "exit 1: connection refused", or why there was no exit.
func (p Probe) String() string {
	text := "exit " + strconv.Itoa(p.ExitCode)
	if p.Err != nil {
		text = p.Err.Error()
	}
	if out := strings.TrimSpace(p.Output); out != "" {
		text += ": " + out
	}
	return text
}

// keptProbes is how many results are kept of a container.
const keptProbes = 5

// keep notes a result of the run that ctx belongs to.
func (k *keeper) keep(ctx context.Context, p Probe) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	k.probes = append(k.probes, p)
	if len(k.probes) > keptProbes {
		k.probes = k.probes[1:]
	}
}

func (r *Reconciler) probeOnce(ctx context.Context, id string, check healthcheck) Probe {
	p := Probe{Start: time.Now()}
	p.ExitCode, p.Output, p.Err = r.engine.Probe(ctx, id, check.args, check.timeout)
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

// setHealth records the health of the run that ctx belongs to; the run that came after it has its own.
func (r *Reconciler) setHealth(ctx context.Context, s *stack, k *keeper, id, health string) {
	k.mu.Lock()
	if ctx.Err() != nil {
		k.mu.Unlock()
		return
	}
	err := r.engine.Update(id, func(rec *runtime.Record) { rec.Health = health })
	k.mu.Unlock()
	if err != nil {
		r.logf("health of %.12s: %v", id, err)
	}
	s.notify()
}
