package reconciler

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/spec"
)

// handClock is a clock that a test moves by hand.
type handClock struct {
	mu    sync.Mutex
	now   time.Time
	waits map[chan struct{}]time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Until(t time.Time) (<-chan struct{}, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reached := make(chan struct{})
	if !t.After(c.now) {
		close(reached)
		return reached, func() {}
	}
	c.waits[reached] = t
	return reached, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waits, reached)
	}
}

func (c *handClock) Changes(context.Context) <-chan struct{} { return nil }

func (c *handClock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
	for reached, until := range c.waits {
		if !until.After(t) {
			close(reached)
			delete(c.waits, reached)
		}
	}
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// newJobHost is a host at noon.
func newJobHost(t *testing.T) (*host, *handClock) {
	clock := &handClock{now: noon, waits: map[chan struct{}]time.Time{}}
	h := &host{Host: runtimetest.New(t), clock: clock}
	t.Cleanup(h.finish)
	h.open()
	return h, clock
}

// jobOf is a stack with one job, due every hour.
func jobOf(command ...string) (*spec.Stack, *spec.Job) {
	j := &spec.Job{Service: *service("job", command...), Triggers: spec.Triggers{Schedule: []spec.Schedule{{Cron: "0 * * * *", Timezone: "UTC"}}}}
	s := stackOf("one")
	s.Jobs = map[string]*spec.Job{"job": j}
	return s, j
}

// runs waits until the only job's runs are as wanted.
func (h *host) runs(what string, ok func([]Run) bool) []Run {
	h.Helper()
	limit := time.After(30 * time.Second)
	for {
		j, err := h.jobs.get("one", "job")
		h.Must(err)
		j.mu.Lock()
		changed := j.changed
		j.mu.Unlock()
		runs := h.jobs.status(j).Runs
		if ok(runs) {
			return runs
		}
		select {
		case <-changed:
		case <-limit:
			h.Fatalf("the runs never were: %s; they are %+v", what, runs)
		}
	}
}

func states(want ...RunState) func([]Run) bool {
	return func(runs []Run) bool {
		if len(runs) != len(want) {
			return false
		}
		for i, state := range want {
			if runs[i].State != state {
				return false
			}
		}
		return true
	}
}

// containersOf are the containers of the job's runs.
func (h *host) containersOf() []runtime.View { return h.engine.Service("one", "job") }

func TestAJobRunsOnceEachTimeItIsDue(t *testing.T) {
	h, clock := newJobHost(t)
	s, _ := jobOf("echo", "done")
	h.up(s)
	if n := h.up(s); n != 0 {
		t.Errorf("the second up did %d things", n)
	}
	if runs := h.Jobs("one")[0].Runs; len(runs) != 0 {
		t.Fatalf("it ran before it was due: %+v", runs)
	}
	clock.set(noon.Add(time.Hour))
	runs := h.runs("one that succeeded", states(RunSucceeded))
	if !runs[0].Fire.Equal(noon.Add(time.Hour)) || runs[0].Attempt != 1 || runs[0].Missed != 0 {
		t.Errorf("the run is %+v", runs[0])
	}
	clock.set(noon.Add(2*time.Hour + time.Second))
	h.runs("two that succeeded", states(RunSucceeded, RunSucceeded))
	if n := len(h.containersOf()); n != 2 {
		t.Errorf("%d containers of two runs", n)
	}
	if next := h.Jobs("one")[0].Next[0]; !next.Equal(noon.Add(3 * time.Hour)) {
		t.Errorf("it is due next at %s", next)
	}
}

func TestARunGoesOnWithoutTheDaemonAndTheNextOneRecordsItsEnd(t *testing.T) {
	h, clock := newJobHost(t)
	s, _ := jobOf("sleep")
	h.up(s)
	clock.set(noon.Add(time.Hour))
	run := h.runs("one at work", states(RunRunning))[0]
	pid := h.containersOf()[0].State.PID
	h.close()
	h.open()
	if got := h.runs("still at work", states(RunRunning))[0]; got != run {
		t.Errorf("the run was %+v and is %+v", run, got)
	}
	if now := h.containersOf(); len(now) != 1 || now[0].State.PID != pid {
		t.Errorf("it runs again: %+v", now)
	}
	h.Must(syscall.Kill(pid, syscall.SIGKILL))
	if got := h.runs("failed", states(RunFailed))[0]; got.ExitCode != 137 {
		t.Errorf("the run is %+v", got)
	}
}

// A crash between the record of a run and its container, or its start, costs no run and makes no second one.
func TestARunThatACrashInterruptedIsBegunByTheNextDaemonOnce(t *testing.T) {
	for name, made := range map[string]bool{"before its container": false, "after its container": true} {
		t.Run(name, func(t *testing.T) {
			h, clock := newJobHost(t)
			s, job := jobOf("echo", "done")
			h.up(s)
			j, err := h.jobs.get("one", "job")
			h.Must(err)
			j.mu.Lock()
			number := j.add(Run{State: RunStarting, Attempt: 1, Fire: noon}, clock.Now())
			run := j.kept.Runs[0]
			j.atWork[number] = true // nobody starts it in this daemon
			h.Must(h.jobs.save(j))
			j.mu.Unlock()
			var id string
			if made {
				v, err := h.jobs.make(h.Context(), h.stack("one"), j, run)
				h.Must(err)
				id = v.ID
			}
			h.close()
			h.open()
			h.runs("one that succeeded", states(RunSucceeded))
			all := h.containersOf()
			if len(all) != 1 || made && all[0].ID != id || all[0].Spec.Image != job.Image {
				t.Errorf("with made %t there are %d containers", made, len(all))
			}
		})
	}
}

func TestMissedFires(t *testing.T) {
	for policy, want := range map[string]int{"": 1, spec.OneMissed: 1, spec.SkipMissed: 0} {
		t.Run(policy, func(t *testing.T) {
			h, clock := newJobHost(t)
			s, job := jobOf("echo", "done")
			job.Triggers.Schedule[0].MissedFires = policy
			h.up(s)
			h.close()
			clock.set(noon.Add(3*time.Hour + 30*time.Minute))
			h.open()
			if want == 0 {
				clock.set(noon.Add(4 * time.Hour)) // what is due while it is there runs
				run := h.runs("one that succeeded", states(RunSucceeded))[0]
				if !run.Fire.Equal(noon.Add(4 * time.Hour)) {
					t.Errorf("a missed fire ran: %+v", run)
				}
				return
			}
			run := h.runs("one that makes up for all", states(RunSucceeded))[0]
			if !run.Fire.Equal(noon.Add(3*time.Hour)) || run.Missed != 2 {
				t.Errorf("the run is %+v", run)
			}
		})
	}
}

func TestAFireWhileARunIsAtWorkIsDroppedOrQueued(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("sleep")
	h.up(s)
	clock.set(noon.Add(time.Hour))
	h.runs("one at work", states(RunRunning))
	clock.set(noon.Add(2 * time.Hour))
	h.runs("one at work, and a fire dropped", func(runs []Run) bool { return len(runs) == 1 && runs[0].Skipped == 1 })
	job.Triggers.Schedule[0].Concurrency = spec.QueueRun
	h.up(s)
	clock.set(noon.Add(3 * time.Hour))
	h.runs("a second one that waits", states(RunRunning, RunQueued))
	h.Must(h.engine.Signal(h.Context(), h.containersOf()[0].ID, syscall.SIGKILL))
	h.runs("the second one at work", states(RunFailed, RunRunning))
}

func TestARunThatFailsOrTakesTooLongIsTriedAgainAsOftenAsItsPolicySays(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("exit", "3")
	job.Runs = spec.RunPolicy{Retries: 1}
	h.up(s)
	clock.set(noon.Add(time.Hour))
	run := h.runs("one to be tried again", states(RunRetrying))[0]
	if !run.RetryAt.After(clock.Now()) {
		t.Errorf("it is tried again at once: %+v", run)
	}
	clock.set(run.RetryAt)
	run = h.runs("one that failed", states(RunFailed))[0]
	if run.Attempt != 2 || run.ExitCode != 3 {
		t.Errorf("the run is %+v", run)
	}
	*job = spec.Job{Service: *service("job", "sleep"), Runs: spec.RunPolicy{Timeout: time.Minute}, Triggers: job.Triggers}
	job.StopGrace = &zero
	h.up(s)
	clock.set(noon.Add(2 * time.Hour))
	h.runs("one at work", states(RunFailed, RunRunning))
	// Its containers have the time of the host; the clock is moved beyond both.
	clock.set(time.Now().Add(time.Hour))
	run = h.runs("one that timed out", func(runs []Run) bool { return len(runs) > 1 && runs[1].State == RunFailed })[1]
	if !run.TimedOut || run.Error == "" {
		t.Errorf("the run is %+v", run)
	}
}

func TestAJobsOldestRunsAreForgottenWithTheirContainers(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("echo", "done")
	job.Runs.History = 2
	h.up(s)
	for n := 1; n <= 4; n++ {
		clock.set(noon.Add(time.Duration(n) * time.Hour))
		h.runs("one more that succeeded", func(runs []Run) bool {
			last := len(runs) - 1
			return last >= 0 && runs[last].Number == n && runs[last].State == RunSucceeded
		})
	}
	runs := h.runs("two", states(RunSucceeded, RunSucceeded))
	if runs[0].Number != 3 {
		t.Errorf("the oldest kept run is %+v", runs[0])
	}
	h.Eventually("two containers are left", func() bool { return len(h.containersOf()) == 2 })
}

func TestARunByHandIsBesideTheSchedules(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("sleep")
	h.up(s)
	clock.set(noon.Add(time.Hour))
	h.runs("one at work", states(RunRunning))
	number, err := h.RunJob("one", "job")
	h.Must(err)
	run, err := h.WaitRun(h.Context(), "one", "job", number, 0)
	h.Must(err)
	if !run.Fire.IsZero() || run.Container == "" {
		t.Errorf("the run is %+v", run)
	}
	job.Triggers.Manual = ptr(false)
	h.up(s)
	if _, err := h.RunJob("one", "job"); !errors.Is(err, ErrNoManual) {
		t.Errorf("a run that the file forbids: %v", err)
	}
	if _, err := h.RunJob("one", "other"); !errors.Is(err, ErrNoJob) {
		t.Errorf("a job that isn't there: %v", err)
	}
}

func TestWhatAStopSuspendsIsNotMissed(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("echo", "done")
	h.up(s)
	_, err := h.Do(h.Context(), "one", nil, func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
		return planner.Stop(o, d, planner.StopOptions{})
	}, nil)
	h.Must(err)
	clock.set(noon.Add(2*time.Hour + 30*time.Minute))
	h.close()
	h.open()
	if j := h.Jobs("one")[0]; !j.Suspended || len(j.Next) != 0 {
		t.Errorf("the job is %+v", j)
	}
	job.Runs.Retries = 1 // an update resumes as well
	h.up(s)
	clock.set(noon.Add(3 * time.Hour))
	run := h.runs("one that succeeded", states(RunSucceeded))[0]
	if !run.Fire.Equal(noon.Add(3*time.Hour)) || run.Missed != 0 {
		t.Errorf("the run is %+v", run)
	}
}

func TestDownTakesAJobAndItsRunsAway(t *testing.T) {
	h, clock := newJobHost(t)
	s, _ := jobOf("sleep")
	h.up(s)
	clock.set(noon.Add(time.Hour))
	h.runs("one at work", states(RunRunning))
	h.down("one")
	if left := h.containersOf(); len(left) != 0 || len(h.Jobs("one")) != 0 {
		t.Errorf("left: %d containers, %d jobs", len(left), len(h.Jobs("one")))
	}
	if left := h.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A run that is at work when its job is removed is an orphan; a job of the same name takes it for none of its own runs.
func TestAJobThatComesBackCountsOn(t *testing.T) {
	h, clock := newJobHost(t)
	s, _ := jobOf("sleep")
	h.up(s)
	clock.set(noon.Add(time.Hour))
	h.runs("one at work", states(RunRunning))
	waited := make(chan error, 1)
	go func() {
		_, err := h.WaitRun(h.Context(), "one", "job", 1, 1)
		waited <- err
	}()
	without := *s
	without.Jobs = nil
	h.up(&without)
	if err := <-waited; !errors.Is(err, ErrNoJob) {
		t.Errorf("who waited for the run: %v", err)
	}
	if n := len(h.containersOf()); n != 1 {
		t.Fatalf("%d containers of a run at work", n)
	}
	h.up(s)
	number, err := h.RunJob("one", "job")
	h.Must(err)
	run, err := h.WaitRun(h.Context(), "one", "job", number, 0)
	h.Must(err)
	if number != 2 || len(h.containersOf()) != 2 || run.Container == "" {
		t.Errorf("run %d of %d containers", number, len(h.containersOf()))
	}
}
