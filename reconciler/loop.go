package reconciler

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// The loop keeps a stack as operations have asked for it. It is level-triggered: whatever woke it, it looks at what is there,
// plans as `up` does, and executes what can be done now. It never waits for a condition: what comes after one is left to the
// pass that the condition's coming true wakes. Users go first: a pass makes way for an operation.
const (
	// gather is how long a pass waits for what comes along with what woke it: a bridge that goes is many events.
	gather = 20 * time.Millisecond
	// fullPass is how often everything is looked at without an event: the second net.
	fullPass = 5 * time.Minute
)

// loop is what is kept of one stack between passes.
type loop struct {
	mu     sync.Mutex
	woken  bool      // since the pass at work began
	full   time.Time // when a pass is to look at everything, also at what no event spoke of
	busy   bool      // somebody is about to make a pass, or at it
	alarm  *time.Timer
	yield  context.CancelFunc // ends the pass at work
	wanted int                // operations that wait for the stack
	err    error              // why the last pass could not plan
	others map[*stack]bool    // that wait for this one

	troubles troubles
}

// wake has a pass made soon.
func (r *Reconciler) wake(s *stack) {
	l := &s.loop
	l.mu.Lock()
	l.woken = true
	begin := !l.busy
	l.busy = true
	l.mu.Unlock()
	if begin {
		r.spawn(func() { r.keepUp(s) })
	}
}

// wakeWith has a stack woken by the next change of another one, which it waits for.
func (r *Reconciler) wakeWith(other string, s *stack) {
	o := r.stack(other)
	o.loop.mu.Lock()
	defer o.loop.mu.Unlock()
	if o.loop.others == nil {
		o.loop.others = map[*stack]bool{}
	}
	o.loop.others[s] = true
}

// changed wakes a stack's loop, and those of stacks that wait for it.
func (r *Reconciler) changed(s *stack) {
	s.loop.mu.Lock()
	others := s.loop.others
	s.loop.others = nil
	s.loop.mu.Unlock()
	for other := range others {
		r.wake(other)
	}
	r.wake(s)
}

// wakeFull has a pass made that looks at everything, also at what no event spoke of.
func (r *Reconciler) wakeFull(s *stack) {
	s.loop.mu.Lock()
	s.loop.full = time.Now()
	s.loop.mu.Unlock()
	r.wake(s)
}

// keepUp makes passes until nothing has happened since the last one began.
func (r *Reconciler) keepUp(s *stack) {
	l := &s.loop
	for {
		select {
		case <-time.After(gather):
		case <-r.ctx.Done():
			return
		}
		l.mu.Lock()
		l.woken = false
		l.mu.Unlock()
		next := r.pass(s)
		s.tell()
		l.mu.Lock()
		if l.alarm != nil {
			l.alarm.Stop()
			l.alarm = nil
		}
		if !next.IsZero() {
			l.alarm = time.AfterFunc(time.Until(next), func() { r.wake(s) })
		}
		again := l.woken
		l.busy = again
		l.mu.Unlock()
		if !again {
			return
		}
	}
}

// lockForLoop takes the stack for a pass, which ends with yield when a user's operation wants it.
func (s *stack) lockForLoop(ctx context.Context, yield context.CancelFunc) (unlock func(), err error) {
	select {
	case s.op <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.loop.mu.Lock()
	s.loop.yield = yield
	if s.loop.wanted > 0 {
		yield()
	}
	s.loop.mu.Unlock()
	return func() {
		s.loop.mu.Lock()
		s.loop.yield = nil
		s.loop.mu.Unlock()
		<-s.op
	}, nil
}

// want asks the pass at work to make way, until the returned function is called.
func (l *loop) want() (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted++
	if l.yield != nil {
		l.yield()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wanted--
	}
}

// pass looks at a stack and does what can be done now. It returns when to look again without an event; zero is never.
func (r *Reconciler) pass(s *stack) (next time.Time) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	unlock, err := s.lockForLoop(ctx, cancel)
	if err != nil {
		return time.Time{}
	}
	defer unlock()
	s.loop.mu.Lock()
	full := !time.Now().Before(s.loop.full)
	if full {
		s.loop.full = time.Now().Add(jitter(fullPass))
	}
	next = s.loop.full
	s.loop.mu.Unlock()
	if full {
		r.inspect(ctx, s)
	}
	w, err := r.wish(ctx, s)
	s.loop.mu.Lock()
	s.loop.err = err
	s.loop.mu.Unlock()
	look := lookAt(s)
	switch {
	case ctx.Err() != nil:
		return time.Now() // after the operation that wanted the stack
	case err != nil:
		r.logf("stack %s can't be kept up: %v", s.name, err)
		s.loop.troubles.tried(look, err, time.Now())
		return s.loop.troubles.next(time.Now())
	case w == nil:
		return time.Time{}
	}
	now := time.Now()
	s.loop.troubles.forget(w.plan, now)
	plan := r.doable(ctx, s, w, now)
	if len(plan.Actions) > 0 {
		x := r.execution(s.name, w.desired, r.loopSink(ctx, s))
		x.images = w.images
		err := r.settleRollouts(ctx, s, w.desired, x, x.run(ctx, plan), x.sink)
		if err == nil && w.after != nil && ctx.Err() == nil {
			err = w.after(ctx)
		}
		if ctx.Err() != nil {
			return time.Now()
		}
		if err != nil && w.after != nil {
			s.loop.troubles.tried(look, err, time.Now())
		}
	} else if w.after != nil && len(w.plan.Actions) == 0 {
		if err := w.after(ctx); err != nil {
			r.logf("stack %s: %v", s.name, err)
			s.loop.troubles.tried(look, err, time.Now())
		}
	}
	if len(w.plan.Actions) == 0 && w.after == nil && len(w.observed.Paused) == 0 {
		r.finished(s)
	}
	// As of when the plan was made: what has become due since then was left out of it.
	if retry := s.loop.troubles.next(now); !retry.IsZero() && retry.Before(next) {
		next = retry
	}
	return next
}

// finished notes that the newest revision has come true, where the up that made it was interrupted.
func (r *Reconciler) finished(s *stack) {
	s.mu.Lock()
	newest := s.newest
	s.mu.Unlock()
	if newest.Number > 0 && newest.Outcome == "" {
		r.conclude(s, newest.Number, Converged, nil)
	}
}

// lookAt is the look at a stack itself as an action, for its back-off.
func lookAt(s *stack) planner.Action {
	return planner.Action{Kind: "look", Address: "stack." + s.name}
}

// wish is what the loop wants of a stack.
type wish struct {
	plan     planner.Plan
	desired  *spec.Stack
	observed *planner.Observed
	images   map[string]string           // by service: what its containers are made from
	after    func(context.Context) error // when all of the plan is done
	observe  bool                        // drift is reported only
}

// wish plans what is to be done about a stack, by what operations have asked for; nil where nothing was asked.
func (r *Reconciler) wish(ctx context.Context, s *stack) (*wish, error) {
	in, err := r.intentOf(s)
	if err != nil {
		return nil, err
	}
	desired, err := r.desiredState(s)
	if err != nil {
		return nil, err
	}
	if in.Down != nil {
		return r.wishDown(ctx, s, in, desired)
	}
	if desired == nil {
		return nil, nil
	}
	opts := planner.Options{
		NoDeps: true, KeepStopped: true, Pull: "missing", RemoveOrphans: in.Orphans, IgnoreOrphans: !in.Orphans,
		Scale: map[string]int{}, AsIs: map[string]bool{}, Idle: map[string]bool{},
	}
	w := &wish{desired: desired, images: map[string]string{}, observe: in.Suspended || desired.Policy.Reconcile == spec.Observe}
	for name, k := range in.Services {
		if desired.Services[name] == nil {
			continue
		}
		opts.Services = append(opts.Services, name)
		opts.AsIs[name], opts.Idle[name] = k.AsIs, k.Idle
		if k.Replicas != nil {
			opts.Scale[name] = *k.Replicas
		}
		if k.Image != "" {
			w.images[name] = k.Image
		}
	}
	if len(opts.Services) == 0 {
		return nil, nil
	}
	if w.observed, err = r.look(ctx, s.name, desired); err != nil {
		return nil, err
	}
	count := map[string]int{}
	for i := range w.observed.Containers {
		c := &w.observed.Containers[i]
		if !c.OneOff {
			count[c.Service]++
		}
		if w.images[c.Service] == c.ImageID {
			c.ImageID = "" // as asked for, whatever the tag points to by now
		}
	}
	for name, k := range in.Services {
		if k.Stopped && desired.Services[name] != nil {
			want := desired.Services[name].Replicas
			if k.Replicas != nil {
				want = *k.Replicas
			}
			opts.Scale[name] = min(want, count[name])
		}
	}
	w.plan, err = planner.Up(desired, w.observed, opts)
	return w, err
}

// doable are the actions of a wish that can be done now: not those under back-off, nor what comes after a condition that
// doesn't hold yet. Of a stack that is only observed they are what restart policies ask for, which is no drift.
func (r *Reconciler) doable(ctx context.Context, s *stack, w *wish, now time.Time) planner.Plan {
	return w.plan.Without(func(a planner.Action) bool {
		if w.observe && a.Reason != planner.RestartPolicy {
			return true
		}
		if a.Kind == planner.Wait {
			if a.Stack != "" {
				r.wakeWith(a.Stack, s)
			}
			over, err := r.holds(ctx, cmp.Or(a.Stack, s.name), a.Service, a.Condition)
			return len(a.After) > 0 || !over && (err == nil || !a.Optional)
		}
		if a.Kind == planner.ServeContainer && (len(a.After) > 0 || r.warmsUp(ctx, a.ContainerID)) {
			return true
		}
		t := s.loop.troubles.of(a)
		return t != nil && now.Before(t.Next)
	})
}

// loopSink notes how the loop's actions end, and tells them to the log.
func (r *Reconciler) loopSink(ctx context.Context, s *stack) Sink {
	return func(e Event) {
		a := e.Action
		switch {
		case a.Kind == planner.Wait:
		case e.Kind == "done":
			s.loop.troubles.tried(a, nil, time.Now())
			r.repaired(s.name, string(a.Kind), nil)
			r.logf("stack %s: %s %s: %s", s.name, a.Kind, a.Address, because(a))
		case e.Kind == "fail" && !(ctx.Err() != nil && errors.Is(e.Err, context.Canceled)):
			s.loop.troubles.tried(a, e.Err, time.Now())
			r.repaired(s.name, string(a.Kind), e.Err)
			r.logf("stack %s: %s failed: %v", s.name, a.Kind, e.Err)
		case e.Kind == "warning":
			r.logf("stack %s: %s: %s", s.name, a.Address, e.Text)
		}
	}
}

// because is an action's reason with its particulars.
func because(a planner.Action) string {
	if a.Detail == "" {
		return string(a.Reason)
	}
	return string(a.Reason) + ": " + a.Detail
}
