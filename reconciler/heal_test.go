package reconciler

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/spec"
)

// ill is a service whose health check never succeeds and which no restart policy would start again.
func ill(policy *spec.UnhealthyPolicy) *spec.Service {
	svc := checked("db", "/no/such")
	svc.Policy = &spec.Policy{Unhealthy: policy}
	return svc
}

func TestAnUnhealthyContainerIsRestartedAsOftenAsItMay(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", ill(&spec.UnhealthyPolicy{MaxAttempts: 2, Delay: 20 * time.Millisecond})))
	first := h.one("one", "db")
	last := h.becomes("one", "db", "unhealthy for good", func(s Status) bool {
		return s.Health == planner.Unhealthy && s.State == planner.Running && s.Restarts == 2 && !s.Healing
	})
	if last.ID != first.ID || last.View.State.PID == first.View.State.PID || last.Restarts != 2 || last.Attempts != 0 {
		t.Errorf("container %.12s instead of %.12s, pid %d, %d restarts, %d attempts of its policy", last.ID, first.ID, last.View.State.PID, last.Restarts, last.Attempts)
	}
	probed := func() int {
		probes, _, err := h.History(last.ID)
		h.Must(err)
		n := 0
		for _, p := range probes {
			if p.Start.After(last.View.State.Started) {
				n++
			}
		}
		return n
	}
	h.Eventually("it is probed on", func() bool { return probed() > 6 })
	if s := h.one("one", "db"); s.View.State.PID != last.View.State.PID || !s.NextTry.IsZero() {
		t.Errorf("it was restarted once more, or will be: %v", s.NextTry)
	}
}

func TestAnUnhealthyContainerIsLeftAloneUntilItsPolicyIsSwitchedOn(t *testing.T) {
	h := newHost(t)
	svc := ill(nil)
	svc.Restart = spec.Restart{Condition: spec.RestartAlways}
	h.up(stackOf("one", svc))
	before := h.becomes("one", "db", "unhealthy", func(s Status) bool { return s.Health == planner.Unhealthy })
	h.Eventually("it is probed on", func() bool { _, streak, err := h.History(before.ID); return err == nil && streak > 5 })
	if s := h.one("one", "db"); s.Restarts != 0 || s.View.State.PID != before.View.State.PID {
		t.Fatalf("%d restarts", s.Restarts)
	}
	on := ill(&spec.UnhealthyPolicy{MaxAttempts: 1, Delay: time.Millisecond})
	on.Restart = svc.Restart
	h.updates(stackOf("one", on))
	h.becomes("one", "db", "restarted", func(s Status) bool { return s.Ailing == 1 && s.Restarts == 1 && s.State == planner.Running })
}

func TestARestartForIllHealthThatACrashInterruptedIsFinished(t *testing.T) {
	for _, state := range []string{"before the process was ended", "after it"} {
		t.Run(state, func(t *testing.T) {
			h := newHost(t)
			svc := checked("db", "/data/seed")
			svc.Policy = &spec.Policy{Unhealthy: &spec.UnhealthyPolicy{}}
			h.up(stackOf("one", svc))
			before := h.becomes("one", "db", "healthy", func(s Status) bool { return s.Health == planner.Healthy })
			h.Must(h.engine.Update(before.ID, func(rec *runtime.Record) { rec.Healing, rec.Ailing = true, 1 }))
			h.close()
			if state == "after it" {
				h.Must(syscall.Kill(before.View.State.PID, syscall.SIGKILL))
				h.Eventually("it has ended", func() bool { return syscall.Kill(before.View.State.PID, 0) != nil })
			}
			h.open()
			after := h.becomes("one", "db", "started again", func(s Status) bool {
				return s.State == planner.Running && s.View.State.PID != before.View.State.PID && s.Health == planner.Healthy
			})
			if after.Healing || after.Ailing != 1 {
				t.Errorf("healing %v, %d restarts counted", after.Healing, after.Ailing)
			}
		})
	}
}

func TestAStopEndsTheRestartForIllHealth(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", ill(&spec.UnhealthyPolicy{Delay: time.Hour})))
	s := h.becomes("one", "db", "unhealthy, to be restarted", func(s Status) bool { return s.Health == planner.Unhealthy && !s.NextTry.IsZero() })
	h.Must(h.engine.Update(s.ID, func(rec *runtime.Record) { rec.Healing = true }))
	h.Must(h.stopContainer(h.Context(), stopRequest{id: s.ID}))
	if s := h.one("one", "db"); s.State != planner.Exited || s.Healing || shouldRestart(s.View) || !s.NextTry.IsZero() {
		t.Errorf("it is %s, healing %v, next try %v", s.State, s.Healing, s.NextTry)
	}
}

// byHand is a health check that found a container unhealthy long ago, beside the one at work.
func (h *host) byHand(s Status) *monitoring {
	stack := h.stack(s.Stack)
	return &monitoring{
		r: h.Reconciler, stack: stack, keeper: stack.keeper(s.ID), check: healthcheck{interval: time.Hour}, id: s.ID, name: s.Name,
		started: s.View.State.Started, health: planner.Unhealthy, since: time.Now().Add(-24 * time.Hour), early: time.Hour,
	}
}

func TestAPausedContainerIsNotRestartedForIllHealth(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", ill(&spec.UnhealthyPolicy{Delay: time.Hour})))
	due := func(s Status) bool { return s.Health == planner.Unhealthy && !s.NextTry.IsZero() }
	s := h.becomes("one", "db", "unhealthy, to be restarted", due)
	h.Must(h.engine.Pause(h.Context(), s.ID))
	h.becomes("one", "db", "paused, and not to be restarted", func(s Status) bool { return s.State == planner.Paused && s.NextTry.IsZero() })
	if h.restartUnhealthy(h.Context(), h.byHand(s)) {
		t.Error("it was restarted")
	}
	if now := h.one("one", "db"); now.State != planner.Paused || now.View.State.PID != s.View.State.PID || now.Healing {
		t.Errorf("it is %s with pid %d, healing %v", now.State, now.View.State.PID, now.Healing)
	}
	h.Must(h.engine.Unpause(h.Context(), s.ID))
	h.becomes("one", "db", "to be restarted again", due)
}

func TestARestartForIllHealthThatIsRefusedIsNotTriedAtOnceAgain(t *testing.T) {
	refused := make(chan time.Time, 2)
	h := &host{Host: runtimetest.New(t)}
	h.hears = func(text string) {
		if strings.HasPrefix(text, "restart one-db-1, which is unhealthy: ") {
			select {
			case refused <- time.Now():
			default:
			}
		}
	}
	t.Cleanup(h.finish)
	h.open()
	stack := stackOf("one", ill(&spec.UnhealthyPolicy{Delay: time.Hour}))
	stack.Policy.Reconcile = spec.Observe // what happens to its folder is not put right
	h.up(stack)
	s := h.becomes("one", "db", "unhealthy", func(s Status) bool { return s.Health == planner.Unhealthy })
	h.stack("one").keeper(s.ID).stopProbes()
	h.Must(os.Rename(s.Dir, s.Dir+".away"))
	h.Must(os.WriteFile(s.Dir, nil, 0o600)) // as on a full disk, its record can't be written
	ctx, cancel := context.WithCancel(h.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		h.byHand(s).run(ctx)
	}()
	first := <-refused
	if took := (<-refused).Sub(first); took < firstCure/2 {
		t.Errorf("it was tried again within %s", took)
	}
	cancel()
	<-over
	h.Must(os.Remove(s.Dir))
	h.Must(os.Rename(s.Dir+".away", s.Dir))
}

// A daemon that dies between the word that a container is healthy and what follows from it leaves that to the next one.
func TestWhatWasHealthyWhenTheDaemonDiedServesUnderTheNext(t *testing.T) {
	h := newHost(t)
	svc := checked("web", "/data/seed")
	svc.Replicas = 2
	h.up(stackOf("one", svc))
	serving := func() bool {
		return !slices.ContainsFunc(h.engine.Service("one", "web"), func(v runtime.View) bool { return readiness(v) != netdriver.Serving })
	}
	h.Eventually("both serve", serving)
	h.Must(h.engine.Update(h.engine.Service("one", "web")[0].ID, func(rec *runtime.Record) { rec.Standby = true }))
	h.close()
	h.open()
	h.Eventually("both serve under the next daemon", serving)
}

func TestTheHistoryOfAHealthCheckOutlivesTheDaemon(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", checked("db", "/no/such")))
	s := h.becomes("one", "db", "unhealthy", func(s Status) bool { return s.Health == planner.Unhealthy })
	before, streak, err := h.History(s.ID)
	h.Must(err)
	if len(before) == 0 || streak < 2 || before[len(before)-1].ExitCode != 1 {
		t.Fatalf("streak %d, %+v", streak, before)
	}
	h.close()
	h.open()
	after, next, err := h.History(s.ID)
	h.Must(err)
	if next < streak || len(after) == 0 || after[0].Output != before[0].Output {
		t.Errorf("streak %d after %d, %+v", next, streak, after)
	}
	found := false
	for _, p := range after {
		found = found || p.Start.Equal(before[len(before)-1].Start)
	}
	if !found {
		t.Errorf("the last probe before is not among %+v", after)
	}
	if s := h.one("one", "db"); s.Health != planner.Unhealthy {
		t.Errorf("it is %q by now", s.Health)
	}
}

func TestAHistoryThatSaysNothingNewIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	var l probeLog
	run := time.Now()
	l.open(dir, run)
	same := func(n int) Probe { return Probe{Start: run.Add(time.Duration(n) * time.Second), Output: "fine"} }
	for n := range 3 {
		if err := l.add(same(n+1), 0); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() probeLog {
		var l probeLog
		l.open(dir, run)
		return l
	}
	if n := len(kept().Probes); n != 1 {
		t.Errorf("%d results are written, of which one is news", n)
	}
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	if n := len(kept().Probes); n != 3 {
		t.Errorf("%d results are written at the end", n)
	}
	for n := range 2 * keptProbes {
		if err := l.add(Probe{Start: run, ExitCode: n}, n); err != nil {
			t.Fatal(err)
		}
	}
	if got := kept(); len(got.Probes) != keptProbes || got.Streak != 2*keptProbes-1 {
		t.Errorf("%d results are kept, streak %d", len(got.Probes), got.Streak)
	}
	if err := os.WriteFile(l.path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := kept(); len(got.Probes) != 0 {
		t.Errorf("of a torn file is read %+v", got)
	}
}

func TestProbesAreSpreadInTime(t *testing.T) {
	const interval, n = time.Minute, 600
	var buckets [6]int
	for range n {
		s := spread(runtime.NewID(), interval)
		if s < 0 || s >= interval/2 {
			t.Fatalf("%s is taken off an interval of %s", s, interval)
		}
		buckets[s/(5*time.Second)]++
	}
	for i, count := range buckets {
		if count < n/12 || count > n/4 {
			t.Errorf("%d of %d containers are in the %d. part", count, n, i)
		}
	}
}
