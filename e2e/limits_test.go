package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestLimitsAreEnforced(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  hungry: {image: python:3-alpine, command: [python3, -c, 'x = bytearray(200 << 20)'], mem_limit: 32m, memswap_limit: 32m}
  forker: {image: busybox, command: [sh, -c, 'for i in $$(seq 50); do sleep 60 & done; echo all; kill %1; sleep 60'], pids_limit: 10, init: true}
  burner: {image: busybox, command: [sh, -c, 'while :; do :; done'], cpus: 0.2, stop_grace_period: 0s}
  files: {image: busybox, init: true, command: [sleep, infinity], ulimits: {nofile: {soft: 100, hard: 200}}, shm_size: 1m}
`)
	h.Stack("up", "-d")
	h.Eventually("the hungry one is killed", func() bool { return h.One("hungry").State == "exited" })
	if c := h.One("hungry"); c.ExitCode != 137 {
		t.Errorf("exit code %d", c.ExitCode)
	}
	contains(t, "ps", h.Stack("ps", "-a"), "Exited (137)")
	h.Eventually("the forker meets its limit", func() bool {
		return strings.Contains(h.Try("logs", "forker").Stderr, "can't fork")
	})
	equal(t, "open files", h.In("files", "sh", "-c", "ulimit -Sn; ulimit -Hn"), "100\n200")
	if r := h.Try("exec", "-T", "files", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=2"); r.Code == 0 {
		t.Error("/dev/shm is larger than shm_size")
	}
	used := func() (cpu, now float64) { // seconds of the burner, and of the clock
		r := h.Sh(`awk '{ print $14 / 100 }' /proc/$(pgrep -f '^sh -c while :; do :; done' | head -1)/stat; cut -d' ' -f1 /proc/uptime`)
		if _, err := fmt.Sscan(r, &cpu, &now); err != nil {
			t.Fatal(err)
		}
		return cpu, now
	}
	cpu, now := used()
	h.Sh(`sleep 2`) // the measurement's length
	cpuThen, then := used()
	if share := (cpuThen - cpu) / (then - now); share > 0.3 {
		t.Errorf("0.2 CPUs used %.2f of one", share)
	}
}
