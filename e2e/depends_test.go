package e2e

import (
	"strings"
	"testing"
)

func TestADependentWaitsForItsDependency(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  started: {image: busybox, init: true, command: [sleep, infinity]}
  healthy:
    image: busybox
    init: true
    command: [sh, -c, 'sleep 1; touch /ready; sleep infinity']
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, start_period: 20s, start_interval: 100ms}
    depends_on: [started]
  completed:
    image: busybox
    command: [sh, -c, 'sleep 0.5; echo done']
    depends_on: {healthy: {condition: service_healthy}}
  last:
    image: busybox
    init: true
    command: [sleep, infinity]
    depends_on: {completed: {condition: service_completed_successfully}}
`)
	h.Stack("up", "-d")
	equal(t, "completed when last runs", h.One("completed").State, "exited")
	equal(t, "healthy", h.One("healthy").Health, "healthy")
	equal(t, "last", h.One("last").State, "running")
}

func TestADependencyThatFailsFailsItsDependentsUp(t *testing.T) {
	for _, c := range []struct {
		name, dependency, condition string
		words                       []string
	}{
		{"exits with an error instead of completing", `command: [sh, -c, 'echo out of luck; exit 4']`, "service_completed_successfully", []string{"dep", "4", "out of luck"}},
		{"is unhealthy", `command: [sleep, infinity]
    init: true
    healthcheck: {test: [CMD, 'false'], interval: 100ms, retries: 2}`, "service_healthy", []string{"dep", "unhealthy"}},
		{"exits before it is healthy", `command: [sh, -c, 'echo out of luck; exit 4']
    healthcheck: {test: [CMD, 'true'], interval: 10s, start_period: 10s, start_interval: 10s}`, "service_healthy", []string{"dep", "4", "out of luck"}},
		{"can't be started", `command: [/no/such/program]`, "service_started", []string{"dep", "/no/such/program"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t)
			h.Write("", `
services:
  dep:
    image: busybox
    `+c.dependency+`
  app:
    image: busybox
    command: [sleep, infinity]
    init: true
    depends_on: {dep: {condition: `+c.condition+`}}
`)
			h.Fails([]string{"up", "-d"}, c.words...)
			for _, app := range h.Ps("app") {
				if app.State == "running" {
					t.Error("app runs without its dependency")
				}
			}
		})
	}
}

func TestAMissingOptionalDependencyIsNoFailure(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  app:
    image: busybox
    init: true
    command: [sleep, infinity]
    depends_on: {other: {condition: service_started, required: false}}
  other: {image: busybox, profiles: [never], command: [sleep, infinity]}
`)
	equal(t, "app", h.One("app").State, "running")
}

func TestDownStopsDependentsFirst(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  db: {image: busybox, command: [sh, -c, 'trap "date +%s%N >/stopped/db; exit 0" TERM; while :; do sleep 0.02; done'], volumes: ["./stopped:/stopped"]}
  app:
    image: busybox
    command: [sh, -c, 'trap "sleep 0.3; date +%s%N >/stopped/app; exit 0" TERM; while :; do sleep 0.02; done']
    volumes: ["./stopped:/stopped"]
    depends_on: [db]
`)
	h.Stack("down")
	stopped := strings.Fields(h.Sh(`cd stopped && ls -tr`))
	if len(stopped) != 2 || stopped[0] != "app" {
		t.Errorf("stopped in the order %v", stopped)
	}
}
