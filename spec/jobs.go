package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Job is a container that runs to its end whenever a trigger says so: by a schedule, or because somebody asks.
type Job struct {
	Service           // what its containers are made from
	Triggers Triggers `json:"triggers"`
	// Runs is `x-stack` of the job.
	Runs RunPolicy `json:"x-stack,omitzero"`
}

// Triggers of a job.
type Triggers struct {
	// Manual false forbids runs that somebody asks for; nil allows them.
	Manual   *bool      `json:"manual,omitempty"`
	Schedule []Schedule `json:"schedule,omitempty"`
}

// Schedule says when a job runs.
type Schedule struct {
	Cron        string `json:"cron"`
	Timezone    string `json:"timezone,omitempty"`     // empty: the host's
	Concurrency string `json:"concurrency,omitempty"`  // what to do while a run is at work; empty: ForbidRun
	MissedFires string `json:"missed_fires,omitempty"` // what to do about fires while no daemon ran; empty: OneMissed
}

// Values of Schedule.Concurrency and Schedule.MissedFires.
const (
	ForbidRun  = "forbid"
	QueueRun   = "queue"
	OneMissed  = "one"
	SkipMissed = "skip"
)

// RunPolicy bounds the runs of a job.
type RunPolicy struct {
	Timeout time.Duration `json:"timeout,omitempty"` // of one attempt; 0: none
	Retries int           `json:"retries,omitempty"` // of a run that fails
	History int           `json:"history,omitempty"` // runs that are kept; 0 is the default
}

// AllowsManual tells whether somebody may ask for a run.
func (j *Job) AllowsManual() bool { return j.Triggers.Manual == nil || *j.Triggers.Manual }

// Digest is a stable hash of all that a job is. Every change counts: there is no container that a change could spare.
func (j *Job) Digest() string {
	bare := *j
	bare.Position = ""
	sum := sha256.Sum256(mustJSON(bare))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// DiffJobs lists field by field what differs between two versions of a job, as Diff does; either may be nil.
func DiffJobs(old, new *Job) []Change {
	tree := func(j *Job) any {
		if j == nil {
			return map[string]any{}
		}
		return fileTree(mustJSON(j))
	}
	return diffTrees(tree(old), tree(new))
}

// With is the stack with the job as one of its services, as a run of it sees the stack.
func (s *Stack) With(j *Job) *Stack {
	with := *s
	with.Services = make(map[string]*Service, len(s.Services)+1)
	for name, service := range s.Services {
		with.Services[name] = service
	}
	with.Services[j.Name] = &j.Service
	return &with
}

// Workloads are all that containers are made from: services, their pre_start hooks, and jobs.
func (s *Stack) Workloads() []*Service {
	all := make([]*Service, 0, len(s.Services)+len(s.Jobs))
	for _, service := range s.Services {
		all = append(all, service)
		for i := range service.PreStart {
			all = append(all, &service.PreStart[i].Service)
		}
	}
	for _, job := range s.Jobs {
		all = append(all, &job.Service)
	}
	return all
}
