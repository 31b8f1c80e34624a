package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/host"
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

// counting prints numbered lines, some thousands at a time, about as many a second as asked for.
func counting(lines, aSecond int) string {
	return fmt.Sprintf(`["awk", "BEGIN { for (i = 0; i < %d; i++) { print i; if (i %% %d == 0) { fflush(); system(\"sleep 0.06\") } } }"]`, lines, aSecond/10)
}

func TestFollowingAServicesLogLosesAndDoublesNothingWhenTheDaemonIsKilled(t *testing.T) {
	const lines, aSecond = 300_000, 50_000
	h := start(t)
	h.Up(`services: {a: {image: busybox, command: ` + counting(lines, aSecond) + `}}`)
	follower := h.Command("bash", "-c", `stack logs -f --no-log-prefix a >followed 2>errors; echo $? >code`)
	stop := h.Background(follower)
	defer stop()
	for _, reached := range []int{lines / 10, lines / 3, lines / 2} {
		h.Eventually("some lines were followed", func() bool { return lineCount(h) > reached })
		h.Kill(h.DaemonPID())
		h.Stack("ps") // the next one
	}
	h.Eventually("the follower ends with the container", func() bool { return h.Sh(`cat code 2>/dev/null || true`) != "" })
	equal(t, "the follower's end", h.Sh(`cat code errors`), "0")
	var first, last time.Time
	stamps := strings.Fields(h.Sh(`stack logs -t --no-log-prefix a | awk 'NR == 1 { print $1 } { last = $1 } END { print last }'`))
	for i, to := range []*time.Time{&first, &last} {
		if err := to.UnmarshalText([]byte(stamps[i])); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d lines, %.0f a second", lines, lines/last.Sub(first).Seconds())
	for what, script := range map[string]string{"what was followed": `cat followed`, "the log": `stack logs --no-log-prefix a`} {
		equal(t, what, h.Sh(script+` | awk '$1 != NR-1 { print "line " NR " is " $0; exit } END { print NR }'`), fmt.Sprint(lines))
	}
}

func lineCount(h *host.Host) (n int) {
	fmt.Sscan(h.Sh(`{ cat followed || true; } 2>/dev/null | wc -l`), &n)
	return n
}

func TestLogsFollowAServiceAcrossRecreatesAndKeepWhatReplacedContainersSaid(t *testing.T) {
	h := start(t)
	file := func(version string) string {
		return `services: {a: {image: busybox, init: true, environment: {V: "` + version + `"}, command: [sh, -c, 'for i in 1 2 3; do echo $$V.$$i; done; exec sleep infinity']}}`
	}
	h.Up(file("one"))
	stop := h.Background(h.Command("bash", "-c", `stack logs -f --no-log-prefix a >followed 2>&1`))
	defer stop()
	all := ""
	for _, version := range []string{"one", "two", "three"} {
		h.Up(file(version))
		all += fmt.Sprintf("%[1]s.1\n%[1]s.2\n%[1]s.3\n", version)
		h.Eventually("it follows "+version, func() bool { return h.Sh(`cat followed 2>/dev/null || true`)+"\n" == all })
	}
	equal(t, "the log", h.Stack("logs", "--no-log-prefix", "a"), all)
	equal(t, "its end", h.Stack("logs", "--no-log-prefix", "-n", "4", "a"), "two.3\nthree.1\nthree.2\nthree.3\n")
	equal(t, "a follower's first lines", h.Sh(`timeout 2 stack logs -f -n 1 --no-log-prefix a || true`), "three.3")
	h.Stack("down", "-t", "0")
	h.Up(file("four"))
	equal(t, "the log after down", h.Stack("logs", "--no-log-prefix", "a"), "four.1\nfour.2\nfour.3\n")
}

func TestUpInTheForegroundPrefixesLinesAndStopsOnCtrlC(t *testing.T) {
	h := start(t)
	h.Write("", `services: {web: {image: busybox, command: [sh, -c, 'trap "echo bye; exit 0" TERM; echo hi; while :; do sleep 0.05; done']}}`)
	r := h.Run(h.Command("bash", "-c", `
		stack up >out 2>err & pid=$!
		until grep -q hi out; do sleep 0.05; done
		kill -INT $pid; wait $pid; echo code $?`))
	contains(t, "the end", r.Stdout, "code 130")
	contains(t, "the output", h.Sh(`cat out`), "web-1  | hi\n", "web-1  | bye\n", "web-1  | exited with code 0")
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
