package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// runs counts how often a service wrote its line.
func runs(log string) int { return strings.Count(log, "run\n") }

func TestRestartPolicies(t *testing.T) {
	h := start(t)
	type policy struct {
		name, restart, command string
		state                  string // in the end; "" while it restarts for ever
		runs                   int    // exactly, or at least while it restarts for ever
	}
	policies := []policy{
		{"no-fails", `"no"`, "exit 3", "exited", 1},
		{"always-succeeds", "always", "exit 0", "", 3},
		{"always-fails", "always", "exit 3", "", 3},
		{"unless-stopped-succeeds", "unless-stopped", "exit 0", "", 3},
		{"on-failure-succeeds", "on-failure", "exit 0", "exited", 1},
		{"on-failure-fails", "on-failure", "exit 3", "", 3},
		{"on-failure-twice", "on-failure:2", "exit 3", "exited", 3},
	}
	file := "services:\n"
	for _, p := range policies {
		file += fmt.Sprintf("  %s: {image: busybox, restart: %s, command: [sh, -c, 'echo run; %s']}\n", p.name, p.restart, p.command)
	}
	h.Write("", file)
	h.Stack("up", "-d")
	for _, p := range policies {
		h.Eventually(fmt.Sprintf("%s ran %d times", p.name, p.runs), func() bool {
			return runs(h.Stack("logs", "--no-log-prefix", p.name)) >= p.runs
		})
		if p.state == "" {
			continue
		}
		h.Eventually(p.name+" is "+p.state, func() bool { return h.One(p.name).State == p.state })
		if got := runs(h.Stack("logs", "--no-log-prefix", p.name)); got != p.runs {
			t.Errorf("%s ran %d times, want %d", p.name, got, p.runs)
		}
	}
}

func TestAStoppedContainerStaysStoppedThroughTheDaemonsDeath(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  stopped: {image: busybox, restart: unless-stopped, init: true, command: [sleep, infinity]}
  running: {image: busybox, restart: unless-stopped, init: true, command: [sleep, infinity]}
`)
	h.Stack("stop", "stopped")
	h.Kill(h.DaemonPID())
	equal(t, "stopped", h.One("stopped").State, "exited")
	equal(t, "running", h.One("running").State, "running")
}

func TestAContainerThatDiesWhileTheDaemonIsDownIsRestartedByTheNextOne(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  a: {image: busybox, restart: always, command: [sh, -c, 'echo run; while [ ! -e /die ]; do sleep 0.05; done; rm /die; exit 1']}
`)
	h.In("a", "true")
	h.Kill(h.DaemonPID())
	h.Sh(`nsenter -t $(pgrep -f 'while \[ ! -e /die' | head -1) -m touch /die`)
	h.Eventually("it was restarted", func() bool { return runs(h.Stack("logs", "--no-log-prefix", "a")) == 2 })
	equal(t, "a", h.One("a").State, "running")
}
