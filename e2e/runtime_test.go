package e2e

import (
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

func TestAnOCIRuntimeProgramRunsContainers(t *testing.T) {
	h := start(t, host.Config("runtimes: {crun: {path: /usr/bin/crun}}\n"))
	h.Up(`
services:
  a:
    image: busybox
    runtime: crun
    init: true
    command: [sh, -c, 'echo from crun; exec sleep infinity']
    ports: ["8080:80"]
    mem_limit: 64m
  b: {image: busybox, init: true, command: [sleep, infinity]}
`)
	equal(t, "its log", h.Stack("logs", "--no-log-prefix", "a"), "from crun\n")
	equal(t, "exec", h.In("a", "echo", "inside"), "inside")
	contains(t, "its name", h.In("b", "nslookup", "-type=a", "a"), "Name:")
	h.Stack("restart", "-t", "1", "a")
	equal(t, "a after a restart", h.One("a").State, "running")
}
