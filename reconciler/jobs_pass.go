package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/schedule"
)

// defaultRuns is how many runs of a job are kept where its x-stack doesn't say.
const defaultRuns = 10

// mostQueued bounds the runs that wait for those before them; what is due beyond that is dropped.
const mostQueued = 100

// punctual is how late a fire may be dealt with before it counts as missed.
const punctual = time.Minute

// keep looks after a job until ctx ends: whenever something may have happened or is due, it looks at everything again.
func (js *jobs) keep(ctx context.Context, j *job) {
	for ctx.Err() == nil {
		next := js.pass(j)
		reached, stop := (<-chan struct{})(nil), func() {}
		if !next.IsZero() {
			reached, stop = js.clock.Until(next)
		}
		select {
		case <-j.wake:
		case <-reached:
		case <-ctx.Done():
		}
		stop()
	}
}

// pass does what is to be done about a job now and returns when it has to look again, at the latest.
func (js *jobs) pass(j *job) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.removed {
		return time.Time{}
	}
	now := js.clock.Now()
	p := &jobPass{js: js, job: j, now: now}
	runs, fired := slices.Clone(j.kept.Runs), maps.Clone(j.kept.Fired)
	for i := range j.kept.Runs {
		p.follow(&j.kept.Runs[i])
	}
	if !j.kept.Suspended {
		for _, s := range j.kept.Job.Triggers.Schedule {
			p.fire(s)
		}
		p.dequeue()
	}
	gone := p.outdated()
	if j.unsaved || !slices.Equal(runs, j.kept.Runs) || !maps.Equal(fired, j.kept.Fired) {
		if err := js.save(j); err != nil {
			js.r.logf("%v", err)
			return now.Add(punctual) // nothing that isn't on record is begun
		}
	}
	for _, run := range j.kept.Runs {
		if run.State == RunStarting && !j.atWork[run.Number] {
			j.atWork[run.Number] = true
			js.r.spawn(func() { js.perform(j, run) })
		}
	}
	for _, number := range gone {
		js.r.spawn(func() { js.forget(j, number) })
	}
	for _, v := range p.overdue {
		js.r.spawn(func() {
			if err := js.r.stopContainer(js.r.ctx, stopRequest{id: v.ID}); err != nil && js.r.ctx.Err() == nil {
				js.r.logf("job %s: %v", j.name, err)
			}
			j.poke()
		})
	}
	return p.next
}

// jobPass is one look at a job. It changes the record only; what is to be done follows from that.
type jobPass struct {
	js      *jobs
	job     *job
	now     time.Time
	next    time.Time      // when the next thing is due
	overdue []runtime.View // attempts that have taken too long
}

func (p *jobPass) due(t time.Time) {
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
}

// follow finds out what became of a run.
func (p *jobPass) follow(run *Run) {
	switch run.State {
	case RunRetrying:
		if run.RetryAt.After(p.now) {
			p.due(run.RetryAt)
			return
		}
		run.Attempt++
		run.State, run.RetryAt, run.Container, run.Started, run.TimedOut, run.Error = RunStarting, time.Time{}, "", time.Time{}, false, ""
	case RunRunning:
		v, err := p.js.r.engine.Get(run.Container)
		switch {
		case err != nil:
			p.ended(run, false, 0, "its container was removed")
		case !v.Running() && v.State.Status != shim.Exited:
			p.ended(run, false, 0, "its end was not seen: the machine went down")
		case !v.Running():
			p.ended(run, v.State.ExitCode == 0 && v.State.Error == "" && !run.TimedOut, v.State.ExitCode, v.State.Error)
		case p.job.kept.Job.Runs.Timeout == 0:
		case run.Started.Add(p.job.kept.Job.Runs.Timeout).After(p.now):
			p.due(run.Started.Add(p.job.kept.Job.Runs.Timeout))
		case !p.job.ending[run.Number]: // by this daemon: the one before it may have died over it
			p.job.ending[run.Number] = true
			run.TimedOut, run.Error = true, fmt.Sprintf("it took longer than its timeout of %s", p.job.kept.Job.Runs.Timeout)
			p.overdue = append(p.overdue, v)
		}
	}
}

// ended concludes an attempt.
func (p *jobPass) ended(run *Run, ok bool, code int, problem string) {
	run.ExitCode, run.Finished = code, p.now
	delete(p.job.ending, run.Number)
	if problem != "" && !run.TimedOut {
		run.Error = problem
	}
	switch {
	case ok:
		run.State = RunSucceeded
	case run.Attempt <= p.job.kept.Job.Runs.Retries:
		run.State, run.RetryAt = RunRetrying, p.now.Add(backoff(spec.Restart{}, run.Attempt+2)) // from 800 ms on
		p.due(run.RetryAt)
	default:
		run.State = RunFailed
	}
}

// mostFires bounds how many fires are counted: who was away for a year need not know how many seconds that were.
const mostFires = 10000

// fire begins a run when a schedule is due. Fires that no daemon was there for, or that come late since the machine slept, are
// missed: together they are one run, or none.
func (p *jobPass) fire(s spec.Schedule) {
	parsed, err := schedule.Parse(s.Cron, s.Timezone)
	if err != nil {
		p.js.r.logf("job %s: %v", p.job.name, err) // checked when it was loaded; the zone may be gone since
		return
	}
	key := scheduleKey(s)
	latest, fires := time.Time{}, 0
	next := parsed.Next(p.job.kept.Fired[key])
	for ; !next.IsZero() && !next.After(p.now); next = parsed.Next(next) {
		latest = next
		if fires++; fires == mostFires {
			latest = p.now
			next = parsed.Next(latest)
			break
		}
	}
	if !next.IsZero() {
		p.due(next)
	}
	if fires == 0 {
		return
	}
	p.job.kept.Fired[key] = latest
	missed := latest.Before(p.js.since) || p.now.Sub(latest) > punctual
	if missed && s.MissedFires == spec.SkipMissed {
		return
	}
	run := Run{Fire: latest, State: RunStarting, Attempt: 1}
	if s.MissedFires != spec.SkipMissed {
		run.Missed = fires - 1
	}
	for i := range p.job.kept.Runs {
		before := &p.job.kept.Runs[i]
		switch {
		case before.Over():
			continue
		case s.Concurrency != spec.QueueRun:
			before.Skipped++
			return
		}
		run.State = RunQueued
	}
	if run.State == RunQueued && p.job.queued() >= mostQueued {
		return
	}
	p.job.add(run, p.now)
}

// add puts a run on record and returns its number.
func (j *job) add(run Run, now time.Time) int {
	run.Number, run.Asked = j.kept.Next, now
	j.kept.Next++
	j.kept.Runs = append(j.kept.Runs, run)
	return run.Number
}

func (j *job) queued() int {
	n := 0
	for _, run := range j.kept.Runs {
		if run.State == RunQueued {
			n++
		}
	}
	return n
}

// dequeue lets the first run that waits begin when none is at work.
func (p *jobPass) dequeue() {
	runs := p.job.kept.Runs
	if slices.ContainsFunc(runs, func(r Run) bool { return !r.Over() && r.State != RunQueued }) {
		return
	}
	if i := slices.IndexFunc(runs, func(r Run) bool { return r.State == RunQueued }); i >= 0 {
		runs[i].State = RunStarting
	}
}

// outdated are the numbers of the oldest runs beyond those that are kept.
func (p *jobPass) outdated() []int {
	keep := p.job.kept.Job.Runs.History
	if keep == 0 {
		keep = defaultRuns
	}
	var over []int
	for _, run := range p.job.kept.Runs {
		if run.Over() {
			over = append(over, run.Number)
		}
	}
	return over[:max(0, len(over)-keep)]
}

func (js *jobs) status(j *job) JobStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := JobStatus{Spec: j.kept.Job, Suspended: j.kept.Suspended, Runs: slices.Clone(j.kept.Runs)}
	if s.Suspended {
		return s
	}
	for _, sc := range s.Spec.Triggers.Schedule {
		next := time.Time{}
		if parsed, err := schedule.Parse(sc.Cron, sc.Timezone); err == nil {
			next = parsed.Next(js.clock.Now())
		}
		s.Next = append(s.Next, next)
	}
	return s
}
