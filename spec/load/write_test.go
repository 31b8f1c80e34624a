package load

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// everything uses each attribute whose form in a desired state is not that of the stack file.
const everything = `
name: demo
x-stack: {history: 3, reconcile: observe}
services:
  web:
    image: nginx
    scale: 2
    command: ["sh", "-c", "echo $$HOME"]
    entrypoint: []
    environment: {PRICE: "5$$", EMPTY: ""}
    restart: on-failure:3
    ports: ["127.0.0.1:8080:80", "90/udp", {target: 81, published: "8000-8001"}]
    networks: {front: {aliases: [x], ipv4_address: 10.9.0.5, priority: 3}, default: }
    volumes:
      - data:/d:ro
      - /anonymous
      - /host:/h:rslave
      - {type: bind, source: /host, target: /b, bind: {create_host_path: false}}
      - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
      - {type: volume, source: data, target: /v, volume: {nocopy: true, subpath: a}}
    tmpfs: ["/run:size=5m,uid=3"]
    configs: [{source: site, target: /site, mode: 0440, uid: "3"}, inline]
    secrets: [key]
    depends_on: {db: {condition: service_healthy, restart: true, required: false}}
    healthcheck: {test: ["CMD", "true"], interval: 1m30s, timeout: 2s, retries: 4, start_period: 1s}
    stop_grace_period: 1m
    logging: {driver: json-file, options: {max-size: 5m, max-file: "3"}}
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    cpus: 0.3
    mem_limit: 64m
    memswap_limit: -1
    mem_swappiness: 0
    cpu_shares: 5
    pids_limit: 9
    shm_size: 1m
    cap_add: [NET_ADMIN]
    devices: ["/dev/null:/dev/x:rw"]
    sysctls: {net.core.somaxconn: 5}
    extra_hosts: ["a=1.2.3.4"]
    expose: ["90"]
    init: true
    pre_start: [{command: [migrate], environment: {MORE: "5$$"}, volumes: [data:/own]}, {image: tools, command: [warm], per_replica: true}]
    post_start: [{command: [seed, "$$X"], user: root, environment: {A: b}}]
    pre_stop: [{command: [flush]}]
    x-stack: {rollout: auto, unhealthy: {max_attempts: 3, delay: 10s}}
  db:
    image: redis@sha256:` + zeros + `
    deploy:
      replicas: 3
      restart_policy: {condition: on-failure, delay: 3s, max_attempts: 2, window: 1m}
      resources: {limits: {cpus: "1.5", memory: 1g, pids: 7}}
      update_config: {parallelism: 2, delay: 5s, order: stop-first, monitor: 1s}
    network_mode: none
    healthcheck: {disable: true}
  seed: {image: nginx, deploy: {mode: replicated-job, replicas: 2}}
jobs:
  backup:
    image: dump
    depends_on: [db]
    volumes: [data:/d]
    secrets: [key]
    mem_limit: 32m
    triggers: {manual: false, schedule: [{cron: "0 4 * * *", timezone: Europe/Berlin, missed_fires: skip}]}
    x-stack: {timeout: 5m, retries: 2, history: 3}
networks:
  front: {driver: bridge, internal: true, ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}, labels: {a: b}}
volumes:
  data: {name: other, driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
configs:
  site: {file: ./site}
  inline: {content: "costs 5$$"}
secrets:
  key: {file: ./key}
`

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// A desired state that is written as a stack file loads to the same desired state.
func TestWrittenStacksLoadAgain(t *testing.T) {
	dir := files{"compose.yaml": everything, "site": "x", "key": "y"}.write(t)
	o := Options{WorkingDir: dir}
	first, err := Load(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Write(first.Stack)
	if err != nil {
		t.Fatal(err)
	}
	o.Files, o.Stdin = []string{"-"}, strings.NewReader(string(text))
	second, err := Load(context.Background(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, d := range spec.Compare(first.Stack, second.Stack) {
		t.Errorf("%s %s: %v", d.Address, d.Verb, d.Changes)
	}
	if t.Failed() {
		t.Logf("written as\n%s", text)
	}
	if len(first.Stack.Services) != 3 || len(first.Stack.Jobs) != 1 || first.Stack.Services["web"].Environment["PRICE"] != "5$" {
		t.Error("the stack is not what the test is about")
	}
	if filepath.Base(first.Stack.Configs["site"].File) != "site" {
		t.Error("the config has no file")
	}
}
