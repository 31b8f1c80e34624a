package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (r *recorder) Jobs(context.Context, string) ([]api.Job, error) { return r.jobs, r.failure }

func (r *recorder) RunJob(context.Context, string, string) (int, error) {
	r.note("run job", nil)
	return len(r.jobRuns), r.failure
}

func (r *recorder) WaitJobRun(_ context.Context, _, _ string, number, after int) (api.JobRun, error) {
	return r.jobRuns[after], r.failure
}

func exampleJobs() []api.Job {
	due := time.Date(2026, 3, 2, 4, 0, 0, 0, time.Local)
	soon := time.Now().Add(3*time.Hour + time.Minute)
	return []api.Job{
		{
			Name: "backup", Manual: true, Schedules: []api.JobSchedule{{Cron: "0 4 * * *", Timezone: "Europe/Berlin", Next: soon}, {Cron: "@weekly", Next: soon.Add(time.Hour)}},
			Runs: []api.JobRun{
				{Number: 7, Due: due, State: "succeeded", Attempt: 1, Container: "c7", Started: due, Finished: due.Add(1500 * time.Millisecond), Missed: 2, Skipped: 1, Over: true},
				{Number: 8, State: "failed", Attempt: 3, Container: "c8", Started: due, Finished: due.Add(time.Minute), ExitCode: 3, Over: true},
				{Number: 9, Due: due, State: "failed", Attempt: 1, Error: "image dump: not found\nmore", Over: true},
			},
		},
		{Name: "report", Manual: true},
		{Name: "tidy", Suspended: true, Schedules: []api.JobSchedule{{Cron: "@daily"}}, Runs: []api.JobRun{{Number: 1, State: "running", Attempt: 1}}},
	}
}

func TestJobListAndHistoryPrintJobs(t *testing.T) {
	s := newSandbox(t, &recorder{jobs: exampleJobs()}, demo)
	for _, c := range []struct{ name, line string }{{"job-ls", "job ls"}, {"job-history", "job history backup"}} {
		got := s.stack(strings.Fields(c.line)...)
		if got.code != 0 {
			t.Fatalf("%s: exit %d: %s", c.line, got.code, got.err)
		}
		golden(t, c.name, got.out)
	}
	if got := s.stack("job", "history", "nothing"); got.code != 1 || !strings.Contains(got.err, "no such job: nothing") {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
}

func TestJobRunPrintsTheOutputOfEachAttemptAndEndsAsTheRunDoes(t *testing.T) {
	r := &recorder{
		jobRuns: []api.JobRun{
			{Number: 2, Attempt: 1, Container: "first", State: "running"},
			{Number: 2, Attempt: 2, Container: "second", State: "failed", ExitCode: 4, Over: true},
		},
		logs: func(_ context.Context, q api.LogRequest, send func(api.LogEntry) error) error {
			return send(api.LogEntry{Container: "demo-backup-run-2", Line: "by " + q.Containers[0]})
		},
	}
	s := newSandbox(t, r, demo)
	if got := s.stack("job", "run", "backup"); got.code != 4 || got.out != "by first\nby second\n" {
		t.Errorf("exit %d: %q %s", got.code, got.out, got.err)
	}
	if got := s.stack("job", "run", "-d", "backup"); got.code != 0 || got.out != "2\n" {
		t.Errorf("exit %d: %q %s", got.code, got.out, got.err)
	}
}
