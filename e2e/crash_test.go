package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/host"
)

const several = `
services:
  a: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, ports: ["8080:80"], volumes: ["data:/data"]}
  b: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, depends_on: [a], tmpfs: [/x]}
  c: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, deploy: {replicas: 3}, networks: [default, back]}
  d: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, depends_on: [c], networks: [back]}
networks: {back: {internal: true}}
volumes: {data: }
`

// killAfter runs the stack command and kills what victim names, with SIGKILL, after a delay.
func killAfter(h *host.Host, delay time.Duration, victim string, args string) {
	h.T.Helper()
	h.Run(h.Command("bash", "-c", fmt.Sprintf(`
		stack %s >/dev/null 2>&1 & pid=$!
		sleep %.3f
		kill -9 $(pgrep -f '%s') 2>/dev/null
		wait $pid; true`, args, delay.Seconds(), victim)))
}

const (
	daemon = `^[^ ]*stack( .*)? daemon`
	shim   = `^[^ ]*stack-shim .*--dir`
)

// Each moment is a machine of its own, so that what one leaves is not cleaned up by the next.
func TestKilledWhileComingUpItConvergesAndLeavesNothing(t *testing.T) {
	for _, victim := range []struct{ name, pattern string }{{"the daemon", daemon}, {"the shim", shim}} {
		for _, delay := range []int{20, 60, 120, 200, 350} {
			t.Run(fmt.Sprintf("%s after %d ms", victim.name, delay), func(t *testing.T) {
				h := start(t)
				h.Write("", several)
				h.Stack("pull", "-q")
				killAfter(h, time.Duration(delay)*time.Millisecond, victim.pattern, "up -d")
				h.Stack("up", "-d", "--wait")
				for _, c := range h.Ps() {
					equal(t, c.Name, c.State, "running")
				}
				if got := len(h.Ps()); got != 6 {
					t.Errorf("%d containers, want 6", got)
				}
				contains(t, "DNS", h.In("d", "nslookup", "-type=a", "c"), "Address")
				h.Stack("down", "-v")
				h.Stack("daemon", "--stop")
				h.AssertClean()
			})
		}
	}
}

func TestKilledWhileGoingDownItLeavesNothing(t *testing.T) {
	for _, victim := range []struct{ name, pattern string }{{"the daemon", daemon}, {"the shim", shim}} {
		for _, delay := range []int{10, 40, 100, 200} {
			t.Run(fmt.Sprintf("%s after %d ms", victim.name, delay), func(t *testing.T) {
				h := start(t)
				h.Up(several)
				killAfter(h, time.Duration(delay)*time.Millisecond, victim.pattern, "down -v")
				h.Stack("down", "-v")
				h.Stack("daemon", "--stop")
				h.AssertClean()
			})
		}
	}
}

func TestANewDaemonTakesOverWhatRuns(t *testing.T) {
	h := start(t)
	h.Up(several)
	var before string
	h.Eventually("each init has executed its program", func() bool {
		before = h.Sh(`pgrep -x sleep | sort | tr '\n' ' '`)
		return len(strings.Fields(before)) == 6
	})
	h.Kill(h.DaemonPID())
	contains(t, "plan", h.Stack("plan"), "Nothing to do")
	h.Stack("up", "-d", "--wait")
	equal(t, "processes", h.Sh(`pgrep -x sleep | sort | tr '\n' ' '`), before)
	h.Stack("up", "-d", "--wait", "--scale", "c=4")
	if got := len(h.Ps("c")); got != 4 {
		t.Errorf("%d replicas", got)
	}
}

func TestDataOfAVolumeSurvivesEverythingButDownV(t *testing.T) {
	h := start(t)
	h.Up(several)
	h.In("a", "sh", "-c", "echo kept >/data/file; sync")
	kept := func(after string) {
		t.Helper()
		equal(t, "the file after "+after, h.In("a", "cat", "/data/file"), "kept")
	}
	h.Stack("up", "-d", "--wait", "--force-recreate")
	kept("a recreate")
	h.Stack("down")
	h.Stack("up", "-d", "--wait")
	kept("down and up")
	h.Kill(h.ShimPID("work"))
	h.Stack("up", "-d", "--wait")
	kept("the death of the shim")
	h.Stack("down", "-v")
	if left := strings.TrimSpace(h.Stack("volume", "ls", "-q")); left != "" {
		t.Errorf("volumes after down -v: %s", left)
	}
}
