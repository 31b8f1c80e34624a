package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/e2e/rollouts"
)

func programs(t testing.TB) string {
	t.Helper()
	dir, err := rollouts.Programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// loadImages loads both images of the example's server.
func loadImages(h *host.Host) {
	h.T.Helper()
	for _, version := range []int{1, 2} {
		h.Stack("image", "load", "--name", rollouts.Image(version), "-i", filepath.Join(programs(h.T), fmt.Sprintf("%d.tar", version)))
	}
}

// load is a generator at work.
type load struct {
	*rollouts.Load
	t    *testing.T
	name string
}

// hammer has the neighbour ask the machine's port until the load is stopped, and returns when it is under way.
func hammer(t *testing.T, n *host.Neighbour, h *host.Host, name string, args ...string) *load {
	t.Helper()
	return begin(t, h, name, n.Command(append([]string{filepath.Join(programs(t), "load"), "-url", "http://" + host.HostIPv4 + ":8080/"}, args...)...))
}

// begin starts a load and returns when it is under way.
func begin(t *testing.T, h *host.Host, name string, cmd *exec.Cmd) *load {
	t.Helper()
	l, err := rollouts.Begin(cmd, func(cmd *exec.Cmd) error { h.Background(cmd); return nil })
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &load{l, t, name}
}

// stop ends a load.
func (l *load) stop(answers ...string) {
	l.t.Helper()
	if err := l.Stop(); err != nil {
		l.t.Fatal(err)
	}
	l.end(answers...)
}

// end waits until a load that was told to stop has made enough requests, and checks that none failed and what was answered.
func (l *load) end(answers ...string) {
	l.t.Helper()
	r, err := l.End()
	if err != nil {
		l.t.Fatalf("%s: %v", l.name, err)
	}
	l.t.Logf("%s: %v", l.name, r)
	if r.Failed > 0 || r.Requests < 20000 {
		l.t.Errorf("%s: %v; errors: %v", l.name, r, r.Errors)
	}
	for _, answer := range answers {
		if r.Answers[answer] == 0 {
			l.t.Errorf("%s: never answered %q, but %v", l.name, answer, r.Answers)
		}
	}
}

// updates rolls a service out under load, with and without kept connections, and returns how long it was silent at most.
func updates(t *testing.T, before, after string, answers ...string) {
	h := start(t)
	n := h.Neighbour()
	loadImages(h)
	h.Up(before)
	h.Eventually("the first version answers", func() bool {
		return h.Run(h.Command("curl", "-s", "--max-time", "5", "http://127.0.0.1:8080/")).Code == 0
	})
	keep := hammer(t, n, h, "kept connections", "-keepalive")
	single := hammer(t, n, h, "a connection each")
	h.Write("", after)
	h.Stack("up", "-d")
	keep.stop(answers...)
	single.stop(answers...)
	for _, c := range h.Ps() {
		if !strings.HasPrefix(c.Name, "work-web-") || c.State != "running" {
			t.Errorf("in the end there is %s, %s", c.Name, c.State)
		}
	}
	contains(t, "another plan", h.Stack("plan"), "Nothing to do")
}

func TestNoRequestFailsOverAStartFirstRolloutOfThree(t *testing.T) {
	const config = "{order: start-first, monitor: 500ms}"
	updates(t, rollouts.Published(1, 3, config), rollouts.Published(2, 3, config), "version 1", "version 2")
}

func TestNoRequestFailsOverAStartFirstRolloutOfOne(t *testing.T) {
	const config = "{order: start-first, monitor: 0s}"
	updates(t, rollouts.Published(1, 1, config), rollouts.Published(2, 1, config), "version 1", "version 2")
}

func TestNoRequestFailsWhileTheOnlyContainerIsReplacedStopFirst(t *testing.T) {
	const config = "{order: stop-first, monitor: 0s}"
	updates(t, rollouts.Published(1, 1, config), rollouts.Published(2, 1, config), "version 1", "version 2")
}

// nginxFile is a plain stack file with a server that has no health check.
func nginxFile(page, extra string) string {
	return `
services:
  web:
    image: nginx
    command: [sh, -c, "echo ` + page + ` >/usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"]
    ports: ["8080:80"]
    stop_grace_period: 2s
` + extra
}

func TestNoRequestFailsWhenNginxIsReplacedByAuto(t *testing.T) {
	const auto = "    x-stack: {rollout: auto}\n"
	updates(t, nginxFile("one", auto), nginxFile("two", auto), "one", "two")
}

func TestNoRequestFailsWhenNginxIsReplacedWithoutAWordOnIt(t *testing.T) {
	updates(t, nginxFile("one", ""), nginxFile("two", ""), "one", "two")
}

func TestAnUnhealthyReplicaGetsNoNewConnections(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'mkdir /www; touch /ok; hostname >/www/index.html; httpd -f -p 80 -h /www']
    ports: ["8080:80"]
    healthcheck: {test: [CMD, test, -e, /ok], interval: 100ms, retries: 2}
    deploy: {replicas: 2}
`)
	answers := func() int {
		return len(strings.Fields(h.Sh(`for i in $(seq 40); do curl -sS --max-time 5 http://localhost:8080/; done | sort -u`)))
	}
	h.Eventually("both answer", func() bool { return answers() == 2 })
	h.Stack("exec", "-T", "--index", "1", "web", "rm", "/ok")
	h.Eventually("the first is unhealthy", func() bool { return h.Ps()[0].Health == "unhealthy" })
	h.Eventually("only the other answers", func() bool { return answers() == 1 })
	equal(t, "who answers", h.Get("http://localhost:8080/"), h.Stack("exec", "-T", "--index", "2", "web", "hostname"))
	h.Stack("exec", "-T", "--index", "2", "web", "rm", "/ok")
	h.Eventually("both are unhealthy", func() bool { return h.Ps()[1].Health == "unhealthy" })
	h.Eventually("both answer, since there is no better one", func() bool { return answers() == 2 })
	h.Stack("exec", "-T", "--index", "1", "web", "touch", "/ok")
	h.Eventually("only the first answers", func() bool { return answers() == 1 })
}

func TestNoRequestFailsThroughAVirtualAddress(t *testing.T) {
	h := start(t)
	loadImages(h)
	file := func(version int) string {
		return rollouts.Virtual(version, 2, "{order: start-first, monitor: 0s}", "busybox", filepath.Join(programs(t), "load"))
	}
	h.Up(file(1))
	address := h.In("client", "nslookup", "web")
	l := begin(t, h, "a name inside the network", h.Command("stack", "exec", "-T", "client", "/load", "-url", "http://web/"))
	h.Write("", file(2))
	h.Stack("up", "-d")
	h.Stack("exec", "-T", "client", "killall", "-INT", "load")
	l.end("version 1", "version 2")
	equal(t, "what the name stands for after the rollout", h.In("client", "nslookup", "web"), address)
}
