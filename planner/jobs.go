package planner

import (
	"maps"
	"slices"

	"github.com/stack-run/stack/spec"
)

// Job is a job of the stack that the daemon keeps: it runs whenever its triggers say so.
type Job struct {
	Spec spec.Job
	// Suspended says that a user stopped the stack: its schedules wait until somebody starts it.
	Suspended bool
}

// draftJobs brings the daemon's jobs in line with the file's. Jobs are for who asks for the whole stack: an up of some services
// leaves them as they are, and so does one that starts nothing; the loop names the services that it keeps and keeps the jobs, too. A job that no active profile enables is left alone, as are
// containers of a service like that.
func (u *up) draftJobs() {
	if len(u.opts.Services) > 0 && !u.opts.KeepStopped || u.opts.NoStart || u.opts.OneOff != "" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(u.desired.Jobs)) {
		job, kept := u.desired.Jobs[name], u.observed.Jobs[name]
		action := Action{Kind: AddJob, Address: spec.JobAddress(name).String(), Name: name, Reason: Missing}
		switch {
		case kept == nil:
		case kept.Spec.Digest() != job.Digest():
			action.Kind, action.Reason, action.Changes = UpdateJob, SpecChanged, spec.DiffJobs(&kept.Spec, job)
			action.Detail = summary(action.Changes)
		case kept.Suspended && !u.opts.KeepStopped:
			action.Kind, action.Reason = ResumeJob, NotRunning
		default:
			continue
		}
		// Last: a job that is due at once finds the services there.
		u.add(len(u.graph.order)*rankStep+rankStep, action)
	}
	for _, name := range slices.Sorted(maps.Keys(u.observed.Jobs)) {
		if u.desired.Jobs[name] == nil && u.desired.Disabled[name] == nil {
			u.add(rankInfra, Action{Kind: RemoveJob, Address: spec.JobAddress(name).String(), Name: name, Reason: Orphan})
		}
	}
	for i := range u.observed.Containers {
		// What is kept of the runs of a job goes with it; a run at work is an orphan like any other.
		if c := &u.observed.Containers[i]; c.Job != "" && !hasProcess(c) && !hasJob(u.desired, c) {
			_, remove := u.draftDiscard(rankInfra, c, Orphan, "a run of a job that is gone", u.opts.Timeout)
			u.plan.Actions[remove].Volumes = true
		}
	}
}

// hasJob tells whether the job of a container is the stack's, enabled or not.
func hasJob(desired *spec.Stack, c *Container) bool {
	return desired.Jobs[c.Job] != nil || desired.Disabled[c.Job] != nil
}

// draftJobs takes the jobs down with the whole stack, before the containers of their runs.
func (d *down) draftJobs() []int {
	if len(d.opts.Services) > 0 {
		return nil
	}
	var ids []int
	for _, name := range slices.Sorted(maps.Keys(d.observed.Jobs)) {
		ids = append(ids, d.add(0, Action{Kind: RemoveJob, Address: spec.JobAddress(name).String(), Name: name, Reason: Requested}))
	}
	return ids
}

// switchJobs suspends or resumes the jobs of a stack that is stopped or started as a whole.
func switchJobs(d *draft, observed *Observed, services []string, kind Kind) {
	if len(services) > 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(observed.Jobs)) {
		if observed.Jobs[name].Suspended == (kind == ResumeJob) {
			d.add(0, Action{Kind: kind, Address: spec.JobAddress(name).String(), Name: name, Reason: Requested})
		}
	}
}
