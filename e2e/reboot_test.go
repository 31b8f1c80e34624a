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
