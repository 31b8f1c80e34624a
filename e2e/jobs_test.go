package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// run is a run of a job, as `job history --format json` shows it.
type run struct {
	Number, Attempt, Missed int
	State, Error            string
	ExitCode                int `json:"exit_code"`
}

// history is a job's runs, newest first.
func history(h *host.Host, job string) []run {
	h.T.Helper()
	var runs []run
	for line := range strings.Lines(h.Stack("job", "history", job, "--format", "json")) {
		var r run
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			h.T.Fatal(err)
		}
		runs = append(runs, r)
	}
	return runs
}

func TestAScheduledJobRunsWithWhatItNeedsAndGoesWithTheStack(t *testing.T) {
	h := start(t)
	h.Sh("mkdir seen")
	h.Up(`
services:
  db:
    image: busybox
    init: true
    command: [sh, -c, 'touch /ready; exec sleep infinity']
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms}
jobs:
  tick:
    image: busybox
    command: [sh, -c, 'nslookup db >/dev/null && echo found db $$WORD && echo run >>/seen/runs']
    environment: {WORD: again}
    volumes: ["./seen:/seen", "data:/data"]
    depends_on: {db: {condition: service_healthy}}
    triggers: {schedule: ["*/2 * * * * *"]}
    x-stack: {history: 3}
  asleep: {image: busybox, command: ["true"], triggers: {schedule: ["0 0 1 1 *"]}}
volumes: {data: }
`)
	h.Eventually("it ran twice", func() bool { return strings.Count(h.Sh("cat seen/runs 2>/dev/null || true"), "run") >= 2 })
	h.Eventually("it is on record", func() bool {
		runs := history(h, "tick")
		return len(runs) > 1 && runs[1].State == "succeeded"
	})
	contains(t, "job ls", h.Stack("job", "ls"), "tick", "*/2 * * * * *", "asleep", "0 0 1 1 *", "never")
	contains(t, "job logs", h.Stack("job", "logs", "tick", "--run", "1"), "found db again")
	equal(t, "what is left to do", h.Sh("stack plan >/dev/null; echo $?"), "0")
	h.Stack("stop")
	contains(t, "job ls of a stopped stack", h.Stack("job", "ls"), "suspended")
	h.Stack("down", "-v")
	equal(t, "jobs after down", strings.TrimSpace(strings.TrimPrefix(h.Stack("job", "ls"), "NAME")), strings.TrimSpace("      SCHEDULE   NEXT      LAST RUN"))
}

func TestAJobIsRunByHand(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  web: {image: busybox, init: true, command: [sleep, infinity]}
jobs:
  report: {image: busybox, command: [sh, -c, 'echo out; echo err >&2; exit 3'], triggers: {manual: true}, x-stack: {retries: 1}}
  slow: {image: busybox, init: true, command: [sleep, '300'], triggers: {manual: true}, x-stack: {timeout: 500ms}, stop_grace_period: 1s}
  never: {image: busybox, command: ["true"], triggers: {manual: false, schedule: ["0 0 1 1 *"]}}
`)
	r := h.Try("job", "run", "report")
	if r.Code != 3 || r.Stdout != "out\nout\n" || r.Stderr != "err\nerr\n" {
		t.Errorf("job run: %v", r)
	}
	if runs := history(h, "report"); len(runs) != 1 || runs[0].Attempt != 2 || runs[0].ExitCode != 3 || runs[0].State != "failed" {
		t.Errorf("history %+v", runs)
	}
	h.Fails([]string{"job", "run", "slow"}, "longer than its timeout of 500ms")
	h.Fails([]string{"job", "run", "never"}, "manual: false")
	h.Fails([]string{"job", "run", "nothing"}, "no such job")
	h.Fails([]string{"up", "report"}, "stack job run report")
	r = h.Try("run", "--rm", "-T", "report", "sh", "-c", "echo instead")
	if r.Code != 0 || r.Stdout != "instead\n" {
		t.Errorf("run of a job: %v", r)
	}
}

func TestARunOfAJobOutlivesTheDaemon(t *testing.T) {
	h := start(t)
	h.Sh("mkdir seen")
	h.Up(`
services:
  web: {image: busybox, init: true, command: [sleep, infinity]}
jobs:
  long:
    image: busybox
    command: [sh, -c, 'echo run >>/seen/runs; while [ ! -e /seen/end ]; do sleep 0.05; done']
    volumes: ["./seen:/seen"]
    triggers: {schedule: ["* * * * * *"]}
`)
	h.Eventually("it runs", func() bool { return h.Sh("cat seen/runs 2>/dev/null || true") == "run" })
	h.Kill(h.DaemonPID())
	h.Stack("ps") // starts the next one
	equal(t, "what runs", history(h, "long")[0].State, "running")
	h.Sh("touch seen/end")
	h.Eventually("its end is on record", func() bool {
		runs := history(h, "long")
		return len(runs) > 0 && runs[len(runs)-1].State == "succeeded"
	})
}

func TestThePlanShowsWhatHappensToJobs(t *testing.T) {
	h := start(t)
	const services = "services:\n  web: {image: busybox, init: true, command: [sleep, infinity]}\n"
	h.Write("", services+"jobs:\n  tidy: {image: busybox, command: ['true'], triggers: {schedule: ['0 4 * * *']}}\n")
	contains(t, "the plan", h.Run(h.Command("stack", "plan")).Stdout, "job.tidy", "create")
	h.Stack("up", "-d", "--wait")
	h.Stack("job", "run", "tidy")
	h.Write("", services+"jobs:\n  tidy: {image: busybox, command: ['true'], triggers: {schedule: ['0 5 * * *']}}\n")
	contains(t, "the plan", h.Run(h.Command("stack", "plan")).Stdout, "job.tidy", "update", `"0 4 * * *"`, `"0 5 * * *"`)
	h.Stack("up", "-d", "--wait")
	contains(t, "job ls", h.Stack("job", "ls"), "0 5 * * *", "#1 succeeded")
	h.Write("", services)
	contains(t, "the plan", h.Run(h.Command("stack", "plan")).Stdout, "job.tidy", "remove")
	h.Stack("up", "-d", "--wait")
	equal(t, "containers of its runs", h.Sh("stack ps -a --format json | grep -c tidy || true"), "0")
	equal(t, "exit code of plan", h.Sh("stack plan >/dev/null; echo $?"), "0")
}
