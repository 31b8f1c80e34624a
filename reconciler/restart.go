package reconciler

import (
	"errors"
	"time"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// Back-off of restarts, as in Docker: 100 ms, doubled at each restart that did not last, at most a minute. A run of
// lastingRun or more starts over.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	lastingRun   = 10 * time.Second
)

// ended handles a container without a process: it is started again, after a delay, when its policy says so, and gives its
// network back otherwise.
func (r *Reconciler) ended(s *stack, v runtime.View) {
	k := s.keeper(v.ID)
	k.mu.Lock()
	known := !v.State.Started.IsZero() && k.ended.Equal(v.State.Started)
	k.ended = v.State.Started
	k.mu.Unlock()
	if !known {
		r.judge(s, v)
	}
}

// judge decides what becomes of a container without a process, after its end or after a restart that failed.
func (r *Reconciler) judge(s *stack, v runtime.View) {
	k := s.keeper(v.ID)
	k.rest()
	if !shouldRestart(v) {
		r.finish(s, v)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if v.RanFor() >= lastingRun {
		k.failures = 0
	}
	delay := backoff(v.Spec.Restart, k.failures)
	k.failures++
	k.nextTry = time.Now().Add(delay)
	k.timer = time.AfterFunc(delay, func() { r.again(s, v.ID) })
}

// again starts a container whose restart is due, unless somebody decided otherwise meanwhile.
func (r *Reconciler) again(s *stack, id string) {
	if r.ctx.Err() != nil {
		return
	}
	r.tasks.Go(func() {
		defer s.notify()
		k := s.keeper(id)
		k.mu.Lock()
		k.timer, k.nextTry = nil, time.Time{}
		k.mu.Unlock()
		v, err := r.engine.Get(id)
		if err != nil || v.Running() || v.Intent != runtime.IntentRun || v.Phase != runtime.Made {
			return
		}
		if err := r.engine.Update(id, func(rec *runtime.Record) { rec.Restarts++ }); err != nil {
			r.logf("restart %s: %v", v.Name, err)
		}
		err = r.startContainer(r.ctx, id, startOptions{again: true})
		if err != nil && r.ctx.Err() == nil && !errors.Is(err, runtime.ErrStopped) {
			r.logf("restart %s: %v", v.Name, err)
			r.judge(s, v)
		}
	})
}

// shouldRestart is the restart policy. What ended with its shim is started again whatever the policy: nobody asked
// for its end.
func shouldRestart(v runtime.View) bool {
	if v.Intent != runtime.IntentRun || v.Phase != runtime.Made {
		return false
	}
	if v.State.Error == runtime.ShimLost {
		return !v.OneOff
	}
	policy := v.Spec.Restart
	switch policy.Condition {
	case spec.RestartAlways, spec.RestartUnlessStopped:
		return policy.MaxAttempts == 0 || v.Restarts < policy.MaxAttempts
	case spec.RestartOnFailure:
		return v.State.ExitCode != 0 && (policy.MaxAttempts == 0 || v.Restarts < policy.MaxAttempts)
	}
	return false
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
