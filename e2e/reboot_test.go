package e2e

import "testing"

func TestAfterARebootWhatRanRunsAgainInItsOrder(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  db:
    image: busybox
    init: true
    restart: always
    command: [sh, -c, 'sleep 0.3; touch /ready; exec sleep infinity']
    tmpfs: [/tmp]
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, start_period: 20s, start_interval: 100ms}
  app:
    image: busybox
    init: true
    restart: unless-stopped
    command: [sh, -c, 'nslookup db >/dev/null && echo found; exec sleep infinity']
    ports: ["8080:80"]
    depends_on: {db: {condition: service_healthy}}
  stopped: {image: busybox, init: true, restart: unless-stopped, command: [sleep, infinity]}
  once: {image: busybox, init: true, restart: "no", command: [sleep, infinity]}
volumes: {data: }
`)
	h.In("db", "sh", "-c", "echo kept >/data/file; sync")
	h.Stack("stop", "stopped")
	h.Reboot()
	h.Background(h.Command("sh", "-c", "exec stack daemon >>$STACK_ROOT/daemon.log 2>&1"))
	h.Eventually("the daemon listens", func() bool { return h.Sh(`[ -S $STACK_RUN/stack.sock ] && echo yes || true`) == "yes" })
	h.Eventually("the stack is up", func() bool {
		return h.One("app").State == "running" && h.One("db").Health == "healthy"
	})
	equal(t, "the volume's data", h.In("db", "cat", "/data/file"), "kept")
	equal(t, "what app found", h.Stack("logs", "--no-log-prefix", "app"), "found\nfound\n")
	equal(t, "stopped", h.One("stopped").State, "exited")
	equal(t, "once", h.One("once").State, "exited")
}

func TestAfterARebootPoliciesAddressesAndCompletedJobsAreAsBefore(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  migrate: {image: busybox, command: [sh, -c, 'echo run']}
  app:
    image: busybox
    init: true
    restart: on-failure
    command: [sleep, infinity]
    depends_on: {migrate: {condition: service_completed_successfully}}
    networks: {fixed: {ipv4_address: 10.77.0.20}}
  late:
    image: busybox
    init: true
    restart: always
    command: [sleep, infinity]
    depends_on: [once]
  once: {image: busybox, init: true, restart: "no", command: [sleep, infinity]}
  done: {image: busybox, restart: unless-stopped, command: [sh, -c, 'echo run; exec sleep infinity'], init: true, stop_grace_period: 1s}
networks:
  fixed: {ipam: {config: [{subnet: 10.77.0.0/24}]}}
`)
	h.Stack("stop", "done")
	before := h.IP("app")
	h.Reboot()
	h.Eventually("what is to run runs", func() bool {
		return h.One("app").State == "running" && h.One("late").State == "running"
	})
	equal(t, "the address of app", h.IP("app"), before)
	equal(t, "the job's log", h.Stack("logs", "--no-log-prefix", "migrate"), "run\n")
	equal(t, "once, which has no policy", h.One("once").State, "exited")
	equal(t, "done, which a user stopped", h.One("done").State, "exited")
	equal(t, "the log of done", h.Stack("logs", "--no-log-prefix", "done"), "run\n")
}

func TestAStackWithDamagedRecordsKeepsNoOtherFromComingUp(t *testing.T) {
	h := start(t)
	const one = `services: {web: {image: busybox, init: true, restart: always, command: [sleep, infinity], stop_grace_period: 1s}}`
	h.Write("bad/compose.yaml", one)
	h.Write("good/compose.yaml", one)
	for _, name := range []string{"bad", "good"} {
		h.Stack("--project-directory", name, "up", "-d", "--wait")
	}
	h.Stack("daemon", "--stop")
	h.Sh(`for f in $STACK_ROOT/stacks/bad/revisions/1.json $STACK_ROOT/stacks/bad/intent.json $STACK_ROOT/stacks/bad/containers/*/container.json; do echo nonsense >$f; done`)
	h.Reboot()
	h.Eventually("the good one is up", func() bool {
		all := h.PsOf("good")
		return len(all) == 1 && all[0].State == "running"
	})
	contains(t, "ls", h.Stack("ls", "-a"), "good", "bad")
	r := h.Try("status", "bad")
	if r.Code != 2 {
		t.Errorf("the status of the damaged stack: %v", r)
	}
	contains(t, "the status of the damaged stack", r.Stdout, "bad", "daemon looks again")
	h.Stack("--project-directory", "bad", "up", "-d", "--wait")
	h.Eventually("the bad one is up", func() bool { return h.Try("status", "bad").Code == 0 })
}
