package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// errJobGone says that a job was removed, or changed, while one of its runs was to begin.
var errJobGone = errors.New("the job was removed")

// perform begins an attempt of a run: it finds or makes its container, and starts it. After a crash the next daemon does it
// again and finds what is there by the container's record, so that one fire makes one container.
func (js *jobs) perform(j *job, run Run) {
	v, err := js.attempt(j, run)
	if js.r.ctx.Err() != nil {
		return // the next daemon goes on
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.atWork, run.Number)
	i := slices.IndexFunc(j.kept.Runs, func(r Run) bool { return r.Number == run.Number })
	if j.removed || i < 0 {
		return
	}
	defer j.poke()
	if errors.Is(err, context.Canceled) {
		return // it made way for an operation, and begins anew after it
	}
	known := &j.kept.Runs[i]
	if err != nil {
		js.r.logf("job %s of stack %s, run %d: %v", j.name, j.stack, run.Number, err)
		p := &jobPass{js: js, job: j, now: js.clock.Now()}
		p.ended(known, false, 0, err.Error())
	} else {
		known.State, known.Container, known.Started = RunRunning, v.ID, v.State.Started
	}
	if err := js.save(j); err != nil {
		js.r.logf("%v", err)
	}
}

// attempt has the lock of the stack's operations from the look at what is there to the start: a down waits, or comes first.
func (js *jobs) attempt(j *job, run Run) (runtime.View, error) {
	r := js.r
	if v, found := js.container(j, run); found && !v.State.Started.IsZero() {
		return v, nil
	}
	s := r.stack(j.stack)
	defer s.notify()
	// Like the loop it makes way for users: what the job depends on may take long to be ready.
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	unlock, err := s.lockForLoop(ctx, cancel)
	if err != nil {
		return runtime.View{}, err
	}
	defer unlock()
	v, found := js.container(j, run)
	if !found {
		if v, err = js.make(ctx, s, j, run); err != nil {
			return v, err
		}
	}
	if v.State.Started.IsZero() {
		if err := r.Start(r.ctx, v.ID); err != nil {
			return v, err
		}
	}
	return r.engine.Get(v.ID)
}

// container is that of an attempt, if it has been made.
func (js *jobs) container(j *job, run Run) (runtime.View, bool) {
	for _, v := range js.runContainers(j, run.Number) {
		if v.Phase == runtime.Made && v.JobRun.Attempt == run.Attempt {
			return v, true
		}
	}
	return runtime.View{}, false
}

func (js *jobs) runContainers(j *job, number int) []runtime.View {
	return slices.DeleteFunc(js.r.engine.Service(j.stack, j.name), func(v runtime.View) bool {
		return v.JobRun == nil || v.JobRun.Job != j.name || v.JobRun.Number != number
	})
}

// make makes the container of an attempt, after what the job depends on is up. The caller has the stack's lock.
func (js *jobs) make(ctx context.Context, s *stack, j *job, run Run) (runtime.View, error) {
	r := js.r
	j.mu.Lock()
	gone, definition := j.removed, j.kept.Job
	j.mu.Unlock()
	desired, err := r.desiredState(s)
	if err == nil && (gone || desired == nil) {
		err = errJobGone
	}
	if err != nil {
		return runtime.View{}, err
	}
	with := desired.With(&definition)
	observed, err := r.observe(ctx, j.stack, with)
	if err != nil {
		return runtime.View{}, err
	}
	plan, err := planner.Up(with, observed, planner.Options{
		Services: []string{j.name}, OneOff: j.name, NoRecreate: true, IgnoreOrphans: true,
		KeepStopped: !run.Fire.IsZero() || run.Attempt > 1, // neither a schedule nor another attempt starts what a user stopped
	})
	if err != nil {
		return runtime.View{}, err
	}
	x := r.execution(j.stack, with, nil)
	if err := x.run(ctx, plan); err != nil {
		return runtime.View{}, err
	}
	ctx, end := r.begun(ctx)
	defer end()
	return r.createContainer(ctx, creation{
		stack: with, service: &definition.Service, name: runName(j, run), replica: 1, oneOff: true,
		jobRun: &runtime.JobRun{Job: j.name, Number: run.Number, Attempt: run.Attempt},
	})
}

func runName(j *job, run Run) string {
	name := j.stack + "-" + j.name + "-run-" + strconv.Itoa(run.Number)
	if run.Attempt > 1 {
		name += "-" + strconv.Itoa(run.Attempt)
	}
	return name
}

// forget removes what is kept of a run: its containers with their logs, then its record.
func (js *jobs) forget(j *job, number int) {
	for _, v := range js.runContainers(j, number) {
		if err := js.r.removeContainer(js.r.ctx, v.ID, true); err != nil {
			if js.r.ctx.Err() == nil {
				js.r.logf("job %s: forget run %d: %v", j.name, number, err)
			}
			return
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.removed {
		return
	}
	j.kept.Runs = slices.DeleteFunc(j.kept.Runs, func(r Run) bool { return r.Number == number })
	if err := js.save(j); err != nil {
		js.r.logf("%v", err)
	}
}

// JobStatus is a job with what is known of its runs, the newest last.
type JobStatus struct {
	Spec      spec.Job
	Suspended bool
	Next      []time.Time // of each schedule, unless it is suspended; zero for one that never comes
	Runs      []Run
}

// Jobs of a stack, sorted by name.
func (r *Reconciler) Jobs(stack string) []JobStatus {
	var all []JobStatus
	for _, j := range r.jobs.of(stack) {
		all = append(all, r.jobs.status(j))
	}
	return all
}

// RunJob begins a run that somebody asked for, beside any that are at work, and returns its number.
func (r *Reconciler) RunJob(stack, name string) (int, error) {
	j, err := r.jobs.get(stack, name)
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.kept.Job.AllowsManual() {
		return 0, fmt.Errorf("job %s: %w: its triggers say `manual: false`", name, ErrNoManual)
	}
	number := j.add(Run{State: RunStarting, Attempt: 1}, r.jobs.clock.Now())
	defer j.poke()
	return number, r.jobs.save(j)
}

// WaitRun waits until a run is over, or until an attempt later than the given one has a container.
func (r *Reconciler) WaitRun(ctx context.Context, stack, name string, number, after int) (Run, error) {
	for {
		j, err := r.jobs.get(stack, name)
		if err != nil {
			return Run{}, err
		}
		j.mu.Lock()
		changed := j.changed
		i := slices.IndexFunc(j.kept.Runs, func(r Run) bool { return r.Number == number })
		run := Run{}
		if i >= 0 {
			run = j.kept.Runs[i]
		}
		j.mu.Unlock()
		if i < 0 {
			return run, fmt.Errorf("job %s: %w: %d", name, ErrNoRun, number)
		}
		if run.Over() || run.Attempt > after && run.Container != "" {
			return run, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return run, ctx.Err()
		}
	}
}
