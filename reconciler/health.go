package reconciler

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
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
	var test []string
	h := healthcheck{}
	if img, err := r.images.Get(ctx, v.ImageID, ""); err == nil && img.Config.Healthcheck != nil {
		i := img.Config.Healthcheck
		test = i.Test
		h = healthcheck{interval: i.Interval, timeout: i.Timeout, startPeriod: i.StartPeriod, startInterval: i.StartInterval, retries: i.Retries}
	}
	if own := v.Spec.Healthcheck; own != nil {
		if own.Disable {
			return healthcheck{}, false
		}
		if len(own.Test) > 0 {
			test = own.Test
		}
		h.interval = either(own.Interval, h.interval)
		h.timeout = either(own.Timeout, h.timeout)
		h.startPeriod = either(own.StartPeriod, h.startPeriod)
		h.startInterval = either(own.StartInterval, h.startInterval)
		h.retries = either(own.Retries, h.retries)
	}
	h.interval = either(h.interval, defaultInterval)
	h.timeout = either(h.timeout, defaultTimeout)
	h.startInterval = either(h.startInterval, defaultStartInterval)
	h.retries = either(h.retries, defaultRetries)
	switch {
	case len(test) == 0 || test[0] == "NONE":
		return healthcheck{}, false
	case test[0] == "CMD":
		h.args = test[1:]
	case test[0] == "CMD-SHELL":
		h.args = []string{"/bin/sh", "-c", strings.Join(test[1:], " ")}
	default:
		h.args = []string{"/bin/sh", "-c", strings.Join(test, " ")}
	}
	return h, len(h.args) > 0
}

func either[T int | time.Duration](own, other T) T {
	if own != 0 {
		return own
	}
	return other
}

// monitor probes a running container by its health check until it ends. Monitoring a monitored container does nothing.
func (r *Reconciler) monitor(s *stack, v runtime.View) {
	check, ok := r.healthcheck(r.ctx, v)
	if !ok {
		return
	}
	k := s.keeper(v.ID)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.health != nil || r.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	k.health = cancel
	if v.Health == planner.NoHealth {
		r.setHealth(s, v.ID, planner.Starting)
	}
	r.tasks.Go(func() { r.probe(ctx, s, v, check) })
}

// probe is Docker's state machine: a success makes healthy; after the start period, `retries` failures in a row make
// unhealthy.
func (r *Reconciler) probe(ctx context.Context, s *stack, v runtime.View, check healthcheck) {
	health, failures := v.Health, 0
	started := v.State.Started
	early := firstProbe
	for {
		starting := time.Since(started) < check.startPeriod && health != planner.Healthy
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
		} else if current.State.Status == "paused" {
			continue
		}
		err := r.probeOnce(ctx, v.ID, check)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			failures = 0
			if health != planner.Healthy {
				health = planner.Healthy
				r.setHealth(s, v.ID, health)
			}
		case counts && time.Since(started) >= check.startPeriod:
			if failures++; failures >= check.retries && health != planner.Unhealthy {
				health = planner.Unhealthy
				r.logf("%s is unhealthy: %v", v.Name, err)
				r.setHealth(s, v.ID, health)
			}
		}
	}
}

// errProbe is a probe whose command said no.
type errProbe struct {
	code   int
	output string
}

func (e *errProbe) Error() string {
	return "exit " + strconv.Itoa(e.code) + ": " + strings.TrimSpace(e.output)
}

func (r *Reconciler) probeOnce(ctx context.Context, id string, check healthcheck) error {
	ctx, cancel := context.WithTimeoutCause(ctx, check.timeout, errors.New("the health check took longer than its timeout"))
	defer cancel()
	code, output, err := r.engine.Probe(ctx, id, check.args)
	if err != nil {
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if code != 0 {
		return &errProbe{code: code, output: output}
	}
	return nil
}

func (r *Reconciler) setHealth(s *stack, id, health string) {
	if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Health = health }); err != nil {
		r.logf("health of %.12s: %v", id, err)
	}
	go s.notify()
}
