package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// loadReport is what e2e/load prints.
type loadReport struct {
	Requests, Failed, Retried int
	Errors, Answers           map[string]int
	Longest                   float64 `json:"longest_ms"`
	Silence                   float64 `json:"silence_ms"`
	Seconds                   float64
}

func (r loadReport) String() string {
	return fmt.Sprintf("%d requests in %.1f s, %d failed, %d sent again as HTTP allows, the longest %.0f ms, the longest time without an answer %.0f ms",
		r.Requests, r.Seconds, r.Failed, r.Retried, r.Longest, r.Silence)
}

// rolloutPrograms builds the load generator, and the example's server as two images that differ, once.
var rolloutPrograms = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stack-rollout-")
	if err != nil {
		return "", err
	}
	build := exec.Command("sh", "-euc", `
		CGO_ENABLED=0 go build -o "$0/load" ./e2e/load
		CGO_ENABLED=0 go build -ldflags '-s -w' -o "$0/rolling" ./examples/rolling
		cd "$0" && chmod 755 . && echo two >two
		tar --owner=0 --group=0 -cf 1.tar rolling && tar --owner=0 --group=0 -cf 2.tar rolling two`, dir)
	build.Dir = host.Repository()
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build what rollouts need: %w: %s", err, out)
	}
	return dir, nil
})

func programs(t testing.TB) string {
	t.Helper()
	dir, err := rolloutPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// load is a generator at work on the neighbour.
type load struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// hammer has the neighbour ask the machine's port until the load is stopped, and returns when it is under way.
func hammer(t *testing.T, n *host.Neighbour, h *host.Host, name string, args ...string) *load {
	t.Helper()
	l := &load{t: t, name: name}
	l.cmd = n.Command(append([]string{filepath.Join(programs(t), "load"), "-url", "http://" + host.HostIPv4 + ":8080/"}, args...)...)
	l.begin(h)
	return l
}

// begin starts a load and returns when it is under way.
func (l *load) begin(h *host.Host) {
	l.t.Helper()
	l.cmd.Stdout = &l.out
	said, err := l.cmd.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	h.Background(l.cmd)
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "under way\n" {
		l.t.Fatalf("%s: %q %v", l.name, line, err)
	}
	go io.Copy(io.Discard, said)
}

// stop ends a load.
func (l *load) stop(answers ...string) loadReport {
	l.t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGINT); err != nil {
		l.t.Fatal(err)
	}
	return l.end(answers...)
}

// end waits until a load that was told to stop has made enough requests, and checks that none failed and what was answered.
func (l *load) end(answers ...string) loadReport {
	l.t.Helper()
	if err := l.cmd.Wait(); err != nil {
		l.t.Fatalf("%s: %v", l.name, err)
	}
	var r loadReport
	if err := json.Unmarshal(l.out.Bytes(), &r); err != nil {
		l.t.Fatalf("%s: %v: %s", l.name, err, l.out.String())
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
	return r
}

// updates rolls a service out under load, with and without kept connections, and returns how long it was silent at most.
func updates(t *testing.T, before, after string, answers ...string) {
	h := start(t)
	n := h.Neighbour()
	for _, version := range []string{"1", "2"} {
		h.Stack("image", "load", "--name", "rolling:"+version, "-i", filepath.Join(programs(t), version+".tar"))
	}
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

// rollingFile is a stack of the example's server.
func rollingFile(version, replicas int, config string) string {
	return fmt.Sprintf(`
services:
  web:
    image: rolling:%d
    pull_policy: never
    command: [/rolling]
    environment: {VERSION: "%d"}
    ports: ["8080:80"]
    stop_grace_period: 2s
    healthcheck: {test: [CMD, /rolling, check], interval: 200ms}
    deploy:
      replicas: %d
      update_config: %s
`, version, version, replicas, config)
}

func TestNoRequestFailsOverAStartFirstRolloutOfThree(t *testing.T) {
	const config = "{order: start-first, monitor: 500ms}"
	updates(t, rollingFile(1, 3, config), rollingFile(2, 3, config), "version 1", "version 2")
}

func TestNoRequestFailsOverAStartFirstRolloutOfOne(t *testing.T) {
	const config = "{order: start-first, monitor: 0s}"
	updates(t, rollingFile(1, 1, config), rollingFile(2, 1, config), "version 1", "version 2")
}

func TestNoRequestFailsWhileTheOnlyContainerIsReplacedStopFirst(t *testing.T) {
	const config = "{order: stop-first, monitor: 0s}"
	updates(t, rollingFile(1, 1, config), rollingFile(2, 1, config), "version 1", "version 2")
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
	for _, version := range []string{"1", "2"} {
		h.Stack("image", "load", "--name", "rolling:"+version, "-i", filepath.Join(programs(t), version+".tar"))
	}
	file := func(version int) string {
		return fmt.Sprintf(`
services:
  web:
    image: rolling:%d
    pull_policy: never
    command: [/rolling]
    environment: {VERSION: "%d"}
    stop_grace_period: 2s
    healthcheck: {test: [CMD, /rolling, check], interval: 200ms}
    deploy:
      replicas: 2
      endpoint_mode: vip
      update_config: {order: start-first, monitor: 0s}
  client: {image: busybox, init: true, command: [sleep, infinity], volumes: ["%s:/load:ro"]}
`, version, version, filepath.Join(programs(t), "load"))
	}
	h.Up(file(1))
	address := h.In("client", "nslookup", "web")
	l := &load{t: t, name: "a name inside the network"}
	l.cmd = h.Command("stack", "exec", "-T", "client", "/load", "-url", "http://web/")
	l.begin(h)
	h.Write("", file(2))
	h.Stack("up", "-d")
	h.Stack("exec", "-T", "client", "killall", "-INT", "load")
	l.end("version 1", "version 2")
	equal(t, "what the name stands for after the rollout", h.In("client", "nslookup", "web"), address)
}
