package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestLogsAreRotatedAndReadInOrder(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  a:
    image: busybox
    command: [sh, -c, 'i=0; while [ $$i -lt 3000 ]; do echo line $$i; i=$$((i+1)); done']
    logging: {options: {max-size: 20k, max-file: "3"}}
`)
	h.Stack("up", "-d")
	h.Eventually("it is done", func() bool { return h.One("a").State == "exited" })
	lines := strings.Split(strings.TrimSuffix(h.Stack("logs", "--no-log-prefix", "a"), "\n"), "\n")
	if len(lines) < 200 || len(lines) > 1500 {
		t.Errorf("%d lines are kept", len(lines))
	}
	for i, line := range lines {
		if want := fmt.Sprintf("line %d", 3000-len(lines)+i); line != want {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
	equal(t, "the last two", h.Stack("logs", "--no-log-prefix", "-n", "2", "a"), "line 2998\nline 2999\n")
}

func TestNoLogLineIsLostWhenTheShimIsKilled(t *testing.T) {
	h := start(t)
	h.Up(`services: {a: {image: busybox, restart: always, command: [sh, -c, 'echo written; exec sleep infinity']}}`)
	h.Eventually("a line is written", func() bool { return strings.Contains(h.Stack("logs", "a"), "written") })
	h.Kill(h.ShimPID("work"))
	h.Eventually("it was restarted", func() bool {
		return h.Stack("logs", "--no-log-prefix", "a") == "written\nwritten\n" && h.One("a").State == "running"
	})
}

func TestLogsFollowUntilTheContainerEnds(t *testing.T) {
	h := start(t)
	h.Up(`services: {a: {image: busybox, command: [sh, -c, 'echo first; echo err >&2; while [ ! -e /go ]; do sleep 0.05; done; echo last']}}`)
	cmd := h.Command("bash", "-c", `stack logs -f --no-log-prefix a 2>&1 & pid=$!
		stack exec -T a touch /go; wait $pid`)
	contains(t, "the log", h.Run(cmd).Stdout, "first", "err", "last")
}

func TestUpInTheForegroundPrefixesLinesAndStopsOnCtrlC(t *testing.T) {
	h := start(t)
	h.Write("", `services: {web: {image: busybox, command: [sh, -c, 'trap "echo bye; exit 0" TERM; echo hi; while :; do sleep 0.05; done']}}`)
	r := h.Run(h.Command("bash", "-c", `
		stack up >out 2>err & pid=$!
		until grep -q hi out; do sleep 0.05; done
		kill -INT $pid; wait $pid; echo code $?`))
	contains(t, "the end", r.Stdout, "code 130")
	contains(t, "the output", h.Sh(`cat out`), "web-1  | hi\n", "web-1  | bye\n")
	equal(t, "web", h.One("web").State, "exited")
}

func TestUpEndsWithTheExitCodeOfAService(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  test: {image: busybox, command: [sh, -c, 'echo testing; exit 9'], depends_on: [dep]}
  dep: {image: busybox, init: true, command: [sleep, infinity]}
`)
	r := h.Try("up", "--exit-code-from", "test")
	contains(t, "the output", r.Stdout, "test-1  | testing")
	if r.Code != 9 {
		t.Errorf("exit code %d, want 9: %v", r.Code, r)
	}
	equal(t, "dep", h.One("dep").State, "exited")
}
