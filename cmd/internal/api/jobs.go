package api

import "time"

// Job is a job of a stack as the daemon keeps it.
type Job struct {
	Name      string        `json:"name"`
	Schedules []JobSchedule `json:"schedules,omitempty"`
	Manual    bool          `json:"manual"` // it may be run by hand
	Suspended bool          `json:"suspended,omitempty"`
	Runs      []JobRun      `json:"runs,omitempty"` // those that are kept, oldest first
}

// JobSchedule says when a job runs.
type JobSchedule struct {
	Cron     string    `json:"cron"`
	Timezone string    `json:"timezone,omitempty"`
	Next     time.Time `json:"next,omitzero"`
}

// JobRun is one run of a job.
type JobRun struct {
	Number    int       `json:"number"`
	Due       time.Time `json:"due,omitzero"` // zero: somebody asked for it
	Asked     time.Time `json:"asked"`
	State     string    `json:"state"` // queued, starting, running, retrying, succeeded, failed
	Attempt   int       `json:"attempt"`
	Container string    `json:"container,omitempty"` // id, of the last attempt
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	RetryAt   time.Time `json:"retry_at,omitzero"`
	ExitCode  int       `json:"exit_code"`
	Error     string    `json:"error,omitempty"`
	Skipped   int       `json:"skipped,omitempty"` // fires dropped because of it
	Missed    int       `json:"missed,omitempty"`  // fires that it makes up for
	Over      bool      `json:"over,omitempty"`
}
