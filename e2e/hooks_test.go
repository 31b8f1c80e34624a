package e2e

import (
	"strings"
	"testing"
)

const hooked = `
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'echo serving; exec sleep infinity']
    volumes: ["./seen:/seen"]
    environment: {OWN: service}
    post_start:
      - command: [sh, -c, 'echo warm $$OWN $$MORE; id -un; pwd; echo post >>/seen/order']
        user: nobody
        working_dir: /tmp
        environment: {MORE: hook}
      - command: [sh, -c, 'echo second; echo second >>/seen/order']
    pre_stop:
      - command: [sh, -c, 'echo bye; echo pre_stop >>/seen/order']
  app:
    image: busybox
    init: true
    command: [sh, -c, 'echo app >>/seen/order; exec sleep infinity']
    volumes: ["./seen:/seen"]
    depends_on: [web]
`

func TestHooksRunAfterTheStartAndBeforeTheStopAndWriteToTheServicesLog(t *testing.T) {
	h := start(t)
	h.Sh("mkdir -m 777 seen && touch seen/order && chmod 666 seen/order")
	h.Up(hooked)
	h.Eventually("app has written, after the hooks of web", func() bool { return h.Sh("cat seen/order") == "post\nsecond\napp" })
	log := h.Stack("logs", "web")
	contains(t, "the log", log, "web-1 ->", "warm service hook", "nobody", "/tmp", "second", "serving")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "->") == strings.Contains(line, "serving") {
			t.Errorf("what is a hook's is not marked, or something else is: %q", line)
		}
	}
	h.Stack("restart", "web")
	equal(t, "the order of a restart", h.Sh("tail -n +4 seen/order"), "pre_stop\npost\nsecond")
	contains(t, "the log", h.Stack("logs", "web"), "bye")
	h.Stack("down")
	equal(t, "the order of down", h.Sh("tail -n 1 seen/order"), "pre_stop")
}

func TestAPostStartHookThatFailsFailsTheStartAndIsRunAgainByTheNextUp(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    volumes: ["./seen:/seen"]
    post_start: [{command: [sh, -c, 'echo run >>/seen/first']}, {command: [sh, -c, 'echo no luck; [ -e /seen/mended ] || exit 7']}]
  app: {image: busybox, init: true, command: [sleep, infinity], depends_on: [web]}
`)
	h.Fails([]string{"up", "-d"}, "post_start", "status 7", "no luck")
	equal(t, "web", h.One("web").State, "running")
	equal(t, "app", h.One("app").State, "created")
	contains(t, "the plan", h.Run(h.Command("stack", "plan")).Stdout, "service.web[1]", "post_start", "post_start pending")
	h.Sh("touch seen/mended")
	// The daemon tries again by itself, too: a run of the hook that it began before is waited for.
	h.Eventually("up succeeds", func() bool { return h.Try("up", "-d").Code == 0 })
	equal(t, "app", h.One("app").State, "running")
	equal(t, "the first hook, which had succeeded", h.Sh("cat seen/first"), "run")
	equal(t, "exit code of plan", h.Sh("stack plan >/dev/null; echo $?"), "0")
}

func TestAPreStopHookIsBoundByTheGracePeriodAndKeepsNothingFromStopping(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  slow: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, pre_stop: [{command: [sleep, '300']}]}
  fails: {image: busybox, init: true, command: [sleep, infinity], pre_stop: [{command: [sh, -c, 'echo cannot; exit 3']}]}
`)
	r := h.Try("stop")
	equal(t, "exit code", string(rune('0'+r.Code)), "0")
	contains(t, "what stop says", r.Stdout+r.Stderr, "status 3", "grace period of 1s")
	equal(t, "slow", h.One("slow").State, "exited")
	equal(t, "fails", h.One("fails").State, "exited")
}

func TestAPostStartHookThatRanWhenTheDaemonWasKilledIsRunOnce(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    volumes: ["./seen:/seen"]
    post_start: [{command: [sh, -c, 'echo run >>/seen/runs; while [ ! -e /seen/go ]; do sleep 0.05; done']}, {command: [sh, -c, 'echo then >>/seen/runs']}]
`)
	h.Sh("mkdir seen")
	h.Background(h.Command("stack", "up", "-d"))
	h.Eventually("the hook runs", func() bool { return h.Sh("cat seen/runs 2>/dev/null || true") == "run" })
	h.Kill(h.DaemonPID())
	h.Stack("ps") // starts the next one
	h.Sh("touch seen/go")
	h.Eventually("the second hook ran", func() bool { return h.Sh("cat seen/runs") == "run\nthen" })
	h.Eventually("nothing is left to do", func() bool { return h.Try("plan").Code == 0 })
	h.Stack("up", "-d")
	equal(t, "runs of the hooks", h.Sh("cat seen/runs"), "run\nthen")
}

func TestPreStartHooksRunOnceBeforeAServicesNewContainersStart(t *testing.T) {
	h := start(t)
	h.Sh("mkdir seen")
	const file = `
services:
  db:
    image: busybox
    init: true
    command: [sh, -c, 'sleep 0.3; touch /ready; exec sleep infinity']
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms}
  web:
    image: busybox
    init: true
    environment: {WHO: web}
    command: [sh, -c, 'cat /data/schema /cache/mine; exec sleep infinity']
    volumes: ["data:/data", /cache]
    depends_on: {db: {condition: service_healthy}}
    pre_start:
      - command: [sh, -c, 'nslookup db >/dev/null && echo "schema $$WHO" >/data/schema; echo migrated; echo once >>/seen/runs']
        volumes: ["./seen:/seen"]
      - command: [sh, -c, 'echo mine >/cache/mine; echo each >>/seen/runs']
        volumes: ["./seen:/seen"]
        per_replica: true
volumes: {data: }
`
	h.Up(file)
	h.Eventually("the service has what its hooks made", func() bool {
		return strings.Contains(h.Stack("logs", "--no-log-prefix", "web"), "schema web\nmine\n")
	})
	equal(t, "the hooks that ran", h.Sh("cat seen/runs"), "once\neach")
	contains(t, "the log", h.Stack("logs", "web"), "web-1 ->", "migrated")
	equal(t, "the containers that ps shows", strings.TrimSpace(h.Stack("ps", "-a", "--format", "{{.Name}}", "web")), "work-web-1")
	h.Stack("restart", "web")
	h.Stack("up", "-d", "--scale", "web=2")
	equal(t, "the hooks that ran after a restart and for a second replica", h.Sh("cat seen/runs"), "once\neach\neach")
	h.Write("", strings.ReplaceAll(file, "migrated", "migrated further"))
	h.Stack("up", "-d", "--wait")
	equal(t, "the hooks that ran after a change of one", h.Sh("tail -n 2 seen/runs"), "once\neach")
	contains(t, "the log", h.Stack("logs", "web"), "migrated further")
}

func TestAPreStartHookThatFailsKeepsTheServiceFromStarting(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    volumes: ["./seen:/seen"]
    pre_start: [{command: [sh, -c, 'echo first >>/seen/runs']}, {command: [sh, -c, 'echo no luck; [ -e /seen/mended ] || exit 7']}]
`)
	h.Fails([]string{"up", "-d"}, "pre_start", "status 7", "no luck")
	if web := h.Ps("web"); web[0].State != "created" { // the hook's own container shows while the daemon tries again
		t.Errorf("web is %+v", web)
	}
	h.Sh("touch seen/mended")
	// The daemon tries again by itself, too: a run of the hook that it began before is waited for.
	h.Eventually("up succeeds", func() bool { return h.Try("up", "-d").Code == 0 })
	equal(t, "web", h.One("web").State, "running")
	equal(t, "runs of the hook that had succeeded", h.Sh("cat seen/runs"), "first")
}

func TestAPreStartHookThatRanWhenTheDaemonWasKilledIsRunOnce(t *testing.T) {
	h := start(t)
	h.Sh("mkdir seen")
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    volumes: ["./seen:/seen"]
    pre_start: [{command: [sh, -c, 'echo run >>/seen/runs; while [ ! -e /seen/go ]; do sleep 0.05; done']}]
`)
	h.Background(h.Command("stack", "up", "-d"))
	h.Eventually("the hook runs", func() bool { return h.Sh("cat seen/runs 2>/dev/null || true") == "run" })
	h.Kill(h.DaemonPID())
	h.Sh("touch seen/go")
	h.Stack("up", "-d")
	equal(t, "web", h.One("web").State, "running")
	equal(t, "runs of the hook", h.Sh("cat seen/runs"), "run")
}
