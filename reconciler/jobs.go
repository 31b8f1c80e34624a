package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// jobs are the jobs of all stacks. Each has a goroutine that sleeps until something is due (jobs_pass.go).
type jobs struct {
	r     *Reconciler
	clock Clock
	// since is when this daemon began: what was due before is missed.
	since time.Time

	mu  sync.Mutex
	all map[string]map[string]*job // by stack and name
}

// job is one job as it is kept, in <root>/stacks/<stack>/jobs/<name>.json.
type job struct {
	stack, name string
	wake        chan struct{}
	end         context.CancelFunc

	mu      sync.Mutex
	kept    keptJob
	unsaved bool         // the record on disk is behind
	atWork  map[int]bool // numbers of the runs that a goroutine of this daemon is starting
	ending  map[int]bool // and of those that it ends, since they take too long
	changed chan struct{}
	removed bool
}

// keptJob is the record of a job.
type keptJob struct {
	Job       spec.Job `json:"job"`
	Suspended bool     `json:"suspended,omitempty"`
	// Fired is the last fire of each schedule that was dealt with, by schedule; at first, when the job was added.
	Fired map[string]time.Time `json:"fired"`
	Next  int                  `json:"next"` // number of the next run
	Runs  []Run                `json:"runs,omitempty"`
}

// Run is one run of a job. It is on record before anything of it exists.
type Run struct {
	Number  int       `json:"number"`
	Fire    time.Time `json:"fire,omitzero"` // when it was due; zero: somebody asked for it
	Asked   time.Time `json:"asked"`         // when it became known
	State   RunState  `json:"state"`
	Attempt int       `json:"attempt"` // from 1 on
	// Container of the last attempt.
	Container string    `json:"container,omitempty"`
	Started   time.Time `json:"started,omitzero"` // of the last attempt
	Finished  time.Time `json:"finished,omitzero"`
	RetryAt   time.Time `json:"retry_at,omitzero"`
	ExitCode  int       `json:"exit_code"`
	Error     string    `json:"error,omitempty"` // why it has no exit code, or why its container was ended
	TimedOut  bool      `json:"timed_out,omitempty"`
	// Skipped counts fires that were dropped because this run was at work, Missed those that it makes up for.
	Skipped int `json:"skipped,omitempty"`
	Missed  int `json:"missed,omitempty"`
}

// RunState of a run.
type RunState string

// The states of a run: the first four are on the way to one of the others.
const (
	RunQueued    RunState = "queued"
	RunStarting  RunState = "starting"
	RunRunning   RunState = "running"
	RunRetrying  RunState = "retrying"
	RunSucceeded RunState = "succeeded"
	RunFailed    RunState = "failed"
)

// Over tells whether nothing more comes of the run.
func (r Run) Over() bool { return r.State == RunSucceeded || r.State == RunFailed }

// Errors of jobs.
var (
	ErrNoJob    = errors.New("no such job")
	ErrNoRun    = errors.New("no such run")
	ErrNoManual = errors.New("the job may not be run by hand")
)

func (r *Reconciler) jobsDir(stack string) string { return filepath.Join(r.stackDir(stack), "jobs") }

func (r *Reconciler) jobPath(stack, name string) string {
	return filepath.Join(r.jobsDir(stack), name+".json")
}

func (r *Reconciler) newJobs(clock Clock) *jobs {
	if clock == nil {
		clock = HostClock{}
	}
	return &jobs{r: r, clock: clock, since: clock.Now(), all: map[string]map[string]*job{}}
}

// openJobs reads the jobs of all stacks and lets them run. A record that can't be read keeps no other from it.
func (r *Reconciler) openJobs() {
	stacks, _ := os.ReadDir(filepath.Join(r.root, "stacks")) // there are none before the first up
	for _, s := range stacks {
		entries, err := os.ReadDir(r.jobsDir(s.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.logf("jobs of stack %s: %v", s.Name(), err)
		}
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), ".json")
			if !ok {
				continue
			}
			var kept keptJob
			data, err := os.ReadFile(r.jobPath(s.Name(), name))
			if err == nil {
				err = json.Unmarshal(data, &kept)
			}
			if err != nil {
				r.logf("job %s of stack %s: %v; `stack up` writes it anew", name, s.Name(), err)
				continue
			}
			r.jobs.begin(s.Name(), name, kept)
		}
	}
	r.spawn(func() {
		changes := r.jobs.clock.Changes(r.ctx)
		for {
			select {
			case <-changes:
				r.jobs.wakeAll()
			case <-r.ctx.Done():
				return
			}
		}
	})
}

// begin keeps a job from now on.
func (js *jobs) begin(stack, name string, kept keptJob) *job {
	ctx, end := context.WithCancel(js.r.ctx)
	j := &job{
		stack: stack, name: name, kept: kept, end: end,
		wake: make(chan struct{}, 1), atWork: map[int]bool{}, ending: map[int]bool{},
		changed: make(chan struct{}),
	}
	js.mu.Lock()
	if js.all[stack] == nil {
		js.all[stack] = map[string]*job{}
	}
	js.all[stack][name] = j
	js.mu.Unlock()
	js.r.spawn(func() { js.keep(ctx, j) })
	return j
}

func (js *jobs) get(stack, name string) (*job, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if j := js.all[stack][name]; j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("stack %s: %w: %s", stack, ErrNoJob, name)
}

// of are the jobs of a stack, sorted by name.
func (js *jobs) of(stack string) []*job {
	js.mu.Lock()
	defer js.mu.Unlock()
	var all []*job
	for _, name := range slices.Sorted(maps.Keys(js.all[stack])) {
		all = append(all, js.all[stack][name])
	}
	return all
}

// poke makes a job look again.
func (j *job) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (js *jobs) wakeAll() {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, stack := range js.all {
		for _, j := range stack {
			j.poke()
		}
	}
}

// happened tells a job that a container of it has changed.
func (js *jobs) happened(v runtime.View) {
	if v.JobRun == nil {
		return
	}
	if j, err := js.get(v.Stack, v.JobRun.Job); err == nil {
		j.poke()
	}
}

// save writes the record, and wakes who waits for a change; the caller holds j.mu.
func (js *jobs) save(j *job) (err error) {
	defer func() { j.unsaved = err != nil }()
	close(j.changed)
	j.changed = make(chan struct{})
	data, err := json.Marshal(&j.kept)
	if err != nil {
		return fmt.Errorf("job %s: %w", j.name, err)
	}
	if err := atomicfile.Write(js.r.jobPath(j.stack, j.name), data, true); err != nil {
		return fmt.Errorf("job %s of stack %s: %w", j.name, j.stack, err)
	}
	return nil
}

// set adds a job, or gives it its new definition; what is known of its runs stays. A schedule that it had before goes on where it
// was, a new one begins now.
func (js *jobs) set(stack string, want *spec.Job) error {
	j, err := js.get(stack, want.Name)
	if err != nil {
		kept := keptJob{Job: *want, Next: js.firstNumber(stack, want.Name), Fired: map[string]time.Time{}}
		// On record before it runs: the goroutine of a job that could not be recorded would run it all the same.
		j := &job{stack: stack, name: want.Name, kept: kept, changed: make(chan struct{})}
		js.beginSchedules(j)
		if err := js.save(j); err != nil {
			return err
		}
		js.begin(stack, want.Name, j.kept)
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.kept.Suspended {
		j.kept.Fired = nil // what would have been due meanwhile is not missed
	}
	j.kept.Job, j.kept.Suspended = *want, false
	js.beginSchedules(j)
	defer j.poke()
	return js.save(j)
}

// firstNumber is that of a new job's first run: beyond those of containers that a job of this name has left, since a run and its
// container find each other by the number.
func (js *jobs) firstNumber(stack, name string) int {
	first := 1
	for _, v := range js.r.engine.Service(stack, name) {
		if v.JobRun != nil {
			first = max(first, v.JobRun.Number+1)
		}
	}
	return first
}

// beginSchedules begins schedules that are new, and forgets those that are gone.
func (js *jobs) beginSchedules(j *job) {
	fired := map[string]time.Time{}
	for _, s := range j.kept.Job.Triggers.Schedule {
		last, known := j.kept.Fired[scheduleKey(s)]
		if !known {
			last = js.clock.Now()
		}
		fired[scheduleKey(s)] = last
	}
	j.kept.Fired = fired
}

func scheduleKey(s spec.Schedule) string { return strings.TrimSpace(s.Cron + " " + s.Timezone) }

// suspend stops or resumes the schedules. What would have been due while they were suspended is no fire that was missed.
func (js *jobs) suspend(stack, name string, suspended bool) error {
	j, err := js.get(stack, name)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.kept.Suspended && !suspended {
		j.kept.Fired = nil
		js.beginSchedules(j)
	}
	j.kept.Suspended = suspended
	defer j.poke()
	return js.save(j)
}

// remove forgets a job. Containers of its runs are the plan's to remove.
func (js *jobs) remove(stack, name string) error {
	if j, err := js.get(stack, name); err == nil {
		j.end()
		js.mu.Lock()
		delete(js.all[stack], name)
		if len(js.all[stack]) == 0 {
			delete(js.all, stack)
		}
		js.mu.Unlock()
		j.mu.Lock()
		j.removed = true
		close(j.changed) // who waits for a run learns that there is none any more
		j.changed = make(chan struct{})
		j.mu.Unlock()
	}
	if err := os.Remove(js.r.jobPath(stack, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(js.r.jobsDir(stack)) // when it is empty
	return nil
}

// observeJobs are a stack's jobs for the planner.
func (r *Reconciler) observeJobs(stack string) map[string]*planner.Job {
	all := map[string]*planner.Job{}
	for _, j := range r.jobs.of(stack) {
		j.mu.Lock()
		all[j.name] = &planner.Job{Spec: j.kept.Job, Suspended: j.kept.Suspended}
		j.mu.Unlock()
	}
	return all
}

// doJob does what a plan says of a job.
func (x *execution) doJob(a planner.Action) error {
	switch a.Kind {
	case planner.RemoveJob:
		return x.r.jobs.remove(x.stack, a.Name)
	case planner.SuspendJob, planner.ResumeJob:
		return x.r.jobs.suspend(x.stack, a.Name, a.Kind == planner.SuspendJob)
	}
	if x.desired == nil || x.desired.Jobs[a.Name] == nil {
		return fmt.Errorf("job %s is not in the stack file", a.Name)
	}
	return x.r.jobs.set(x.stack, x.desired.Jobs[a.Name])
}
