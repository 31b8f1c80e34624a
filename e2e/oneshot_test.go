package e2e

import "testing"

func TestAServiceThatRunsToItsEndIsDoneOnceItHasSucceeded(t *testing.T) {
	h := start(t)
	h.Sh("mkdir seen")
	const file = `
services:
  seed:
    image: busybox
    command: [sh, -c, 'echo run >>/seen/runs; [ -e /seen/good ]']
    volumes: ["./seen:/seen"]
    deploy: {mode: replicated-job}
  web: {image: busybox, init: true, command: [sleep, infinity]}
`
	h.Write("", file)
	h.Fails([]string{"up", "-d", "--wait"}, "seed", "exit 1")
	h.Sh("touch seen/good")
	h.Stack("up", "-d", "--wait")
	equal(t, "runs until it has succeeded", h.Sh("cat seen/runs"), "run\nrun")
	h.Stack("up", "-d", "--wait")
	equal(t, "exit code of plan", h.Sh("stack plan >/dev/null; echo $?"), "0")
	h.Kill(h.DaemonPID())
	h.Stack("up", "-d", "--wait")
	equal(t, "runs when nothing has changed", h.Sh("cat seen/runs"), "run\nrun")
	h.Write("", file+"# a note\n")
	h.Stack("up", "-d", "--wait")
	equal(t, "runs after a change of nothing", h.Sh("cat seen/runs"), "run\nrun")
}

func TestWaitCountsAnEndWithoutAnErrorAsASuccess(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  plain: {image: busybox, command: ["true"]}
  checked: {image: busybox, command: ["true"], healthcheck: {test: [CMD, "false"], interval: 10s}}
`)
	equal(t, "checked", h.One("checked").State, "exited")
}
