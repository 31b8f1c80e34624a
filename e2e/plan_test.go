package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

func TestPlanTellsWhatUpWouldDoAndChangesNothing(t *testing.T) {
	h := start(t)
	h.Stack("version")
	h.Write("", sleeper)
	r := h.Try("plan")
	contains(t, "the plan", r.Stdout, "service.a", "network.default")
	if r.Code != 2 {
		t.Errorf("exit code %d with changes to make: %v", r.Code, r)
	}
	if got := len(h.Ps()); got != 0 {
		t.Errorf("plan made %d containers", got)
	}
	dry := h.Try("up", "-d", "--dry-run")
	contains(t, "up --dry-run", dry.Stdout+dry.Stderr, "service.a")
	h.Stack("up", "-d", "--wait")
	r = h.Try("plan")
	if r.Code != 0 {
		t.Errorf("exit code %d with nothing to do: %v", r.Code, r)
	}
	h.Write("", strings.Replace(sleeper, "blue", "green", 1))
	r = h.Try("plan", "--format", "json")
	if r.Code != 2 {
		t.Errorf("exit code %d: %v", r.Code, r)
	}
	var plan any
	if err := json.Unmarshal([]byte(r.Stdout), &plan); err != nil {
		t.Errorf("%v: %v", err, r)
	}
	contains(t, "the plan", r.Stdout, "environment.COLOR", "blue", "green")
	h.Write("", "services: {a: {image: busybox, colour: blue}}")
	if r = h.Try("plan"); r.Code != 1 {
		t.Errorf("exit code %d for a wrong file: %v", r.Code, r)
	}
}

func TestOnlyWhatChangedIsTouched(t *testing.T) {
	h := start(t)
	file := `
services:
  a: {image: busybox, init: true, command: [sleep, infinity], environment: {COLOR: blue}}
  b: {image: busybox, init: true, command: [sleep, infinity], depends_on: [a]}
`
	h.Up(file)
	a, b := h.One("a").ID, h.One("b").ID
	h.Up(file)
	equal(t, "a after an up with nothing to do", h.One("a").ID, a)
	h.Up(strings.Replace(file, "blue", "green", 1))
	if h.One("a").ID == a {
		t.Error("a was not recreated")
	}
	equal(t, "b", h.One("b").ID, b)
	h.Up(`services: {b: {image: busybox, init: true, command: [sleep, infinity]}}`)
	equal(t, "the orphan a without --remove-orphans", h.Sh(`stack ps -a -q --orphans=true | wc -l`), "2")
	h.Stack("up", "-d", "--wait", "--remove-orphans")
	equal(t, "containers after --remove-orphans", h.Sh(`stack ps -a -q --orphans=true | wc -l`), "1")
}

func TestAWrongFileIsRefusedWithEveryFindingAndItsPlace(t *testing.T) {
	h := start(t, host.NoRegistry())
	for name, c := range map[string]struct {
		file  string
		words []string
	}{
		"two unknown keys":    {"services:\n  a:\n    image: busybox\n    colour: blue\n    imagee: x\n", []string{"compose.yaml:4:5", "colour", "compose.yaml:5:5", "imagee"}},
		"malformed YAML":      {"services:\n  a: [\n", []string{"compose.yaml:"}},
		"a cycle":             {"services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n", []string{"compose.yaml:", "a", "b"}},
		"a wrong type":        {"services:\n  a:\n    image: busybox\n    ports: 80\n", []string{"compose.yaml:4:", "ports"}},
		"no such network":     {"services:\n  a:\n    image: busybox\n    networks: [nowhere]\n", []string{"compose.yaml:4:", "nowhere"}},
		"a port out of range": {"services:\n  a:\n    image: busybox\n    ports: [\"99999:80\"]\n", []string{"compose.yaml:4:", "99999"}},
	} {
		t.Run(name, func(t *testing.T) {
			h.Write("", c.file)
			r := h.Try("up", "-d")
			if r.Code == 0 {
				t.Fatal(r)
			}
			contains(t, "the message", r.Stderr, c.words...)
		})
	}
}
