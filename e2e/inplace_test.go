package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/images"
)

// aClient asks a redis every few milliseconds on one connection, and says when that is lost.
const aClient = `
import socket, time
s = socket.create_connection(("127.0.0.1", 6379))
s.settimeout(5)
answered = 0
try:
    while True:
        s.sendall(b"PING\r\n")
        if s.recv(100) != b"+PONG\r\n": raise Exception("another answer")
        answered += 1
        open("answered", "w").write(str(answered))
        time.sleep(0.01)
except Exception as e:
    open("lost", "w").write(repr(e))
`

func TestARedisKeepsItsDataAndItsClientWhileItsServiceChanges(t *testing.T) {
	h := start(t)
	file := func(attributes string) string {
		return `
services:
  cache: {image: redis:alpine, init: true, ` + attributes + `}
  other: {image: redis:alpine, init: true, command: [sleep, infinity], networks: [back]}
networks: {front: , back: }
`
	}
	h.Up(file(`ports: ["6379:6379"], networks: [front], mem_limit: 64m`))
	redis := func(args ...string) string { return h.In("cache", append([]string{"redis-cli"}, args...)...) }
	run := func() string { return h.In("cache", "sh", "-c", "redis-cli info server | grep run_id") }
	redis("set", "kept", "in memory")
	before := run()
	h.Write("client.py", aClient)
	h.Background(h.Command("python3", "client.py"))
	answered := func() string { return h.Sh(`cat answered 2>/dev/null || true`) }
	h.Eventually("the client is answered", func() bool { return answered() != "" })

	changed := file(`ports: ["6379:6379", "16379:6379"], networks: {front: {aliases: [store]}, back: }, mem_limit: 128m, pids_limit: 50, cpus: 0.5,
    labels: {tier: cache}, restart: always, stop_grace_period: 3s, logging: {options: {max-size: 1m, max-file: "2"}},
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s}`)
	h.Write("", changed)
	plan := h.Try("plan")
	contains(t, "plan", plan.Stdout, "service.cache", "resources.mem_limit", "ports[", "networks.back", "logging.options.max-size")
	if strings.Contains(plan.Stdout, "recreate") || plan.Code != 2 {
		t.Errorf("plan: %v", plan)
	}
	h.Stack("up", "-d", "--wait")
	equal(t, "its process", run(), before)
	equal(t, "what it has in memory", redis("get", "kept"), "in memory")
	contains(t, "memory limits", h.Sh(`find /sys/fs/cgroup -path '*/work/*' \( -name memory.limit_in_bytes -o -name memory.max \) -exec cat {} +`), "134217728")
	equal(t, "by its other port", h.Sh(`exec 3<>/dev/tcp/127.0.0.1/16379; printf 'GET kept\r\nQUIT\r\n' >&3; sed -n 2p <&3 | tr -d '\r'`), "in memory")
	contains(t, "from its new network", h.In("other", "redis-cli", "-h", "cache", "ping"), "PONG")
	equal(t, "its health", h.One("cache").Health, "healthy")

	h.Write("", strings.Replace(file(`ports: ["6379:6379"], networks: [front], mem_limit: 64m`), "cache: {", "cache: {labels: {tier: cache}, ", 1))
	h.Stack("up", "-d")
	equal(t, "its process", run(), before)
	if r := h.Try("exec", "-T", "other", "redis-cli", "-h", "cache", "ping"); r.Code == 0 && strings.Contains(r.Stdout, "PONG") {
		t.Errorf("it answers on a network that it left: %v", r)
	}
	if got := h.Sh(`ss -Hltn 'sport = :16379' | wc -l; exec 3<>/dev/tcp/127.0.0.1/16379 && echo open || echo closed`); !strings.Contains(got, "closed") {
		t.Errorf("its port is %s", got)
	}
	count := answered()
	h.Eventually("the client is still answered", func() bool { return answered() != count })
	equal(t, "what the client lost", h.Sh(`cat lost 2>/dev/null || true`), "")
	equal(t, "the next plan", h.Try("plan").Stdout, "Nothing to do.\n")
}

func TestALimitBelowWhatIsInUseIsRefusedAndTheOldOneStays(t *testing.T) {
	h := start(t)
	file := func(limit string) string {
		return `
services:
  hungry:
    image: python:3-alpine
    init: true
    command: [python3, -c, 'import time; x = bytearray(b"x" * (60 << 20)); open("/tmp/full", "w"); time.sleep(1e6)']
    healthcheck: {test: [CMD, test, -e, /tmp/full], interval: 1s}
    mem_limit: ` + limit + `
    memswap_limit: ` + limit + "\n"
	}
	h.Up(file("128m"), "--wait")
	h.Write("", file("16m"))
	h.Fails([]string{"up", "-d"}, "service.hungry", "old ones stay")
	equal(t, "its state", h.One("hungry").State, "running")
	h.Write("", file("128m"))
	equal(t, "the plan for what is", h.Try("plan").Stdout, "Nothing to do.\n")
}

func TestAnUnhealthyContainerIsRestartedUpToItsCap(t *testing.T) {
	h := start(t)
	h.Write("", `
x-stack: {unhealthy: {max_attempts: 2, delay: 100ms}}
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'echo begun; exec sleep infinity']
    healthcheck: {test: [CMD-SHELL, 'cat /tmp/ready'], interval: 200ms, retries: 2}
    stop_grace_period: 1s
  calm: {image: busybox, init: true, command: [sleep, infinity], x-stack: {unhealthy: ignore}, healthcheck: {test: [CMD, "false"], interval: 200ms, retries: 2}}
`)
	h.Stack("up", "-d")
	type health struct {
		Service, Status string
		Restarts        int
		Log             []struct {
			ExitCode int `json:"exit_code"`
			Output   string
		}
	}
	of := func(service string) health {
		var all []health
		r := h.Try("health", "--format", "json", service)
		if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || len(all) != 1 {
			t.Fatalf("%v: %v", err, r)
		}
		return all[0]
	}
	starts := func() int { return strings.Count(h.Stack("logs", "--no-log-prefix", "web"), "begun") }
	h.Eventually("it is restarted as often as it may", func() bool { w := of("web"); return w.Restarts == 2 && w.Status == "unhealthy" && starts() == 3 })
	w := of("web")
	if len(w.Log) == 0 || w.Log[len(w.Log)-1].ExitCode != 1 || !strings.Contains(w.Log[len(w.Log)-1].Output, "/tmp/ready") {
		t.Errorf("its history is %+v", w.Log)
	}
	if r := h.Try("health"); r.Code != 1 {
		t.Errorf("with something unhealthy: %v", r)
	}
	h.Eventually("the other is unhealthy", func() bool { return of("calm").Status == "unhealthy" })
	equal(t, "the restarts of who is to be left alone", strconv.Itoa(of("calm").Restarts), "0")
	h.In("web", "touch", "/tmp/ready")
	h.Eventually("it is well", func() bool { return h.One("web").Health == "healthy" })
	equal(t, "the starts in its log", strconv.Itoa(starts()), "3")
	h.Kill(h.DaemonPID())
	h.Eventually("a new daemon answers", func() bool { return h.Try("ls").Code == 0 })
	if got := of("web"); got.Status != "healthy" || len(got.Log) < len(w.Log) {
		t.Errorf("the history that a new daemon tells is %+v", got)
	}
}

func TestContentsRecreateExactlyTheServicesConcerned(t *testing.T) {
	h := start(t)
	h.Registry(images.Registry{Addr: ownRegistry, Storage: filepath.Join(h.Dir, "registry")})
	push := func(image string) {
		h.Sh(`skopeo copy -q --src-tls-verify=false --dest-tls-verify=false docker://127.0.0.1:5000/library/` + image + ` docker://` + ownRegistry + `/app:1`)
	}
	push("busybox:latest")
	for name, content := range map[string]string{"config": "one", "secret": "one", "env": "LEVEL=one\n"} {
		h.Write(name, content)
	}
	h.Up(`
x-idle: &idle {image: busybox, init: true, command: [sleep, infinity]}
services:
  config: {<<: *idle, configs: [c]}
  secret: {<<: *idle, secrets: [s]}
  env: {<<: *idle, env_file: ./env}
  image: {<<: *idle, image: "` + ownRegistry + `/app:1", pull_policy: always}
  none: *idle
configs: {c: {file: ./config}}
secrets: {s: {file: ./secret}}
`)
	ids := func() map[string]string {
		found := map[string]string{}
		for _, c := range h.Ps() {
			found[c.Service] = c.ID
		}
		return found
	}
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"config", func() { h.Write("config", "two") }},
		{"secret", func() { h.Write("secret", "two") }},
		{"env", func() { h.Write("env", "LEVEL=two\n") }},
		{"image", func() { push("redis:alpine") }},
	} {
		before := ids()
		c.change()
		h.Stack("up", "-d")
		var other []string
		for service, id := range ids() {
			if before[service] != id {
				other = append(other, service)
			}
		}
		if !slices.Equal(other, []string{c.what}) {
			t.Errorf("a change of %s's content made %v anew", c.what, other)
		}
	}
	before := ids()
	h.Stack("up", "-d")
	for service, id := range ids() {
		if before[service] != id {
			t.Errorf("%s was made anew although nothing changed", service)
		}
	}
}
