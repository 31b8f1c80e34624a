package e2e

import (
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

const intents = `
services:
  web: {image: busybox, init: true, restart: unless-stopped, command: [sleep, infinity], stop_grace_period: 1s, depends_on: [db]}
  db: {image: busybox, init: true, restart: unless-stopped, command: [sleep, infinity], stop_grace_period: 1s}
  other: {image: busybox, init: true, restart: unless-stopped, command: [sleep, infinity], stop_grace_period: 1s}
  made: {image: busybox, init: true, restart: unless-stopped, command: [sleep, infinity], stop_grace_period: 1s}
`

// states are the containers of the stack with their states, in one line.
func states(h *host.Host) string {
	h.T.Helper()
	var all []string
	for _, c := range h.Ps() {
		all = append(all, strings.TrimPrefix(c.Name, "work-")+" "+c.State)
	}
	return strings.Join(all, ", ")
}

func TestWhatUsersAskedForHoldsOverTheDaemonsDeathAndAReboot(t *testing.T) {
	h := start(t)
	h.Write("", intents)
	h.Stack("up", "-d", "--wait", "--scale", "web=2", "web")
	h.Stack("create", "made")
	h.Stack("up", "-d", "--wait", "--no-deps", "other")
	h.Stack("stop", "other")
	want := "db-1 running, made-1 created, other-1 exited, web-1 running, web-2 running"
	equal(t, "what is there", states(h), want)
	same := func(after string) {
		t.Helper()
		h.Eventually("all is as asked for after "+after, func() bool { return states(h) == want && h.Try("status").Code == 0 })
	}
	same("the operations")
	h.Kill(h.DaemonPID())
	same("the daemon's death")
	h.Kill(h.ShimPID("work"))
	same("the shim's death")
	h.Reboot()
	same("a reboot")
	h.Stack("rm", "-s", "-f", "web")
	want = "db-1 running, made-1 created, other-1 exited"
	same("rm")
	h.Reboot()
	same("another reboot")
	h.Stack("scale", "web=1")
	h.Stack("pause", "web")
	want = "db-1 running, made-1 created, other-1 exited, web-1 paused"
	same("pause")
	h.Stack("down")
	h.Kill(h.DaemonPID())
	equal(t, "after down", strings.TrimSpace(h.Stack("ls", "-a", "-q")), "")
}

func TestALoopMakesNoContainerAgainBecauseAnImageWasPulled(t *testing.T) {
	h := start(t)
	h.Up(`services: {web: {image: busybox, init: true, restart: always, command: [sleep, infinity], pull_policy: always}}`)
	id := h.One("web").ID
	h.Kill(h.DaemonPID())
	h.Eventually("all is well", func() bool { return h.Try("status").Code == 0 })
	equal(t, "web", h.One("web").ID, id)
}
