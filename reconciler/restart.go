package reconciler

import (
	"errors"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// Back-off of restarts, as in Docker: 100 ms, doubled at each restart that did not last, at most a minute. A run of
// lastingRun or more starts over. A policy's window does the same for its max_attempts: a run that took that long was a
// success, and attempts count anew.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	lastingRun   = 10 * time.Second
)

// ended handles the end of a run, once: the container is started again, after a delay, when its policy says so, and gives
// its network back otherwise.
func (r *Reconciler) ended(s *stack, id string) {
	k := s.keeper(id)
	k.life.Lock()
	defer k.life.Unlock()
	v, err := r.engine.Get(id)
	if err != nil {
		s.drop(id) // removed meanwhile
		return
	}
	if v.Running() {
		return // started again meanwhile
	}
	k.mu.Lock()
	known := k.handed || !v.State.Started.IsZero() && k.ended.Equal(v.State.Started)
	k.ended = v.State.Started
	if v.RanFor() >= lastingRun {
		k.failures = 0
	}
	k.mu.Unlock()
	if known {
		return
	}
	if broken(v) != "" && r.onlyObserved(s) {
		k.hand() // it is drift: shown, and not repaired
	}
	if window := v.Spec.Restart.Window; window > 0 && v.RanFor() >= window && v.Attempts > 0 {
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Attempts = 0 }); err != nil {
			r.logf("restart %s: %v", v.Name, err)
		}
		v.Attempts = 0
	}
	r.judge(s, k, v)
}

// judge decides what becomes of a container without a process, after its end or after a restart that failed. The caller
// holds k.life.
func (r *Reconciler) judge(s *stack, k *keeper, v runtime.View) {
	handed := s.handed(v.ID)
	k.rest()
	if handed {
		k.hand()
	}
	if handed || !shouldRestart(v) {
		if err := r.finish(r.ctx, s, k, v); err != nil && r.ctx.Err() == nil {
			r.logf("%s has ended: %v", v.Name, err)
		}
		return
	}
	if why := broken(v); why != "" {
		r.repaired(v.Stack, string(planner.StartContainer), nil)
		r.logf("stack %s: start %s: drifted: %s", v.Stack, v.Address(), why)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delay := backoff(v.Spec.Restart, k.failures)
	if v.Healing && k.failures == 0 {
		delay = 0 // it has been waited for already
	}
	k.failures++
	k.restarting, k.nextTry = true, time.Now().Add(delay)
	k.timer = time.AfterFunc(delay, func() { r.spawn(func() { r.again(s, k, v.ID) }) })
}

// again starts a container whose restart is due, unless somebody decided otherwise meanwhile.
func (r *Reconciler) again(s *stack, k *keeper, id string) {
	defer s.notify()
	err := r.startContainer(r.ctx, id, startOptions{again: true})
	if err == nil {
		r.resumeHooks(id)
	}
	k.life.Lock()
	defer k.life.Unlock()
	v, getErr := r.engine.Get(id)
	if getErr != nil {
		s.drop(id)
		return
	}
	if err == nil || r.ctx.Err() != nil || v.Running() {
		return
	}
	if errors.Is(err, runtime.ErrStopped) {
		k.rest()
		return
	}
	r.logf("restart %s: %v", v.Name, err)
	r.judge(s, k, v)
}

// shouldRestart is the restart policy. What ended with its shim, or was killed from outside of its container, is started again
// whatever the policy: it did not end by itself, and nobody asked for its end.
func shouldRestart(v runtime.View) bool {
	if v.Intent != runtime.IntentRun || v.Phase != runtime.Made {
		return false
	}
	if broken(v) != "" {
		return !v.OneOff
	}
	if v.Healing {
		return true
	}
	policy := v.Spec.Restart
	switch policy.Condition {
	case spec.RestartAlways, spec.RestartUnlessStopped:
	case spec.RestartOnFailure:
		if v.State.ExitCode == 0 && !v.State.Started.IsZero() {
			return false
		}
	default:
		return false
	}
	return policy.MaxAttempts == 0 || v.Attempts < policy.MaxAttempts
}

// broken is why a container that was to run did not end by itself; empty when it did, or its host went down. What is stopped
// may have been killed too, after its grace period, by whoever stopped it.
func broken(v runtime.View) string {
	switch {
	case v.Running(), v.Intent == runtime.IntentStop:
		return ""
	case v.State.Error == runtime.ShimLost:
		return "its shim was killed"
	case v.State.Killed:
		return "killed from outside"
	}
	return ""
}

func backoff(policy spec.Restart, failures int) time.Duration {
	if policy.Delay > 0 {
		return policy.Delay
	}
	delay := firstDelay
	for range failures {
		if delay *= 2; delay >= longestDelay {
			return longestDelay
		}
	}
	return delay
}
