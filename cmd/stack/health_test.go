package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

func TestHealthTellsWhatChecksSaid(t *testing.T) {
	now := time.Now()
	probe := func(ago time.Duration, code int, said string) api.HealthProbe {
		return api.HealthProbe{Start: now.Add(-ago - 25*time.Millisecond), End: now.Add(-ago), ExitCode: code, Output: said}
	}
	r := &recorder{health: []api.ContainerHealth{
		{Name: "demo-db-1", Service: "db", Replica: 1, State: "running", Status: "unhealthy", FailingStreak: 4, Restarts: 2, NextTry: now.Add(5 * time.Minute),
			Log: []api.HealthProbe{probe(time.Hour, 0, ""), probe(5*time.Second, 1, "connection refused\nby all\n")}},
		{Name: "demo-web-1", Service: "web", Replica: 1, State: "running"},
	}}
	s := newSandbox(t, r, demo)
	got := s.stack("health")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if got.code != 1 || len(lines) != 3 {
		t.Fatalf("exit %d, %s%s", got.code, got.out, got.err)
	}
	for i, want := range [][]string{
		{"NAME", "SERVICE", "HEALTH", "FAILURES", "RESTARTS", "CHECKED", "SAID"},
		{"demo-db-1", "db", "unhealthy", "4", "2,", "next", "in", "4m59s", "5", "seconds", "ago", "connection", "refused"},
		{"demo-web-1", "web", "-", "0", "0"},
	} {
		line := strings.Replace(lines[i], "5m0s", "4m59s", 1)
		if fields := strings.Fields(line); strings.Join(fields, " ") != strings.Join(want, " ") {
			t.Errorf("line %q, want %q", fields, want)
		}
	}
	if got = s.stack("health", "db"); !strings.Contains(got.out, "exit 1  25ms\n    connection refused\n    by all\n") {
		t.Errorf("the log of a named service:\n%s", got.out)
	}
	if got = s.stack("health", "--format", "json"); got.code != 1 || !strings.Contains(got.out, `"failing_streak":4`) {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	r.health = r.health[1:]
	if got = s.stack("health"); got.code != 0 {
		t.Errorf("exit %d although nothing is unhealthy", got.code)
	}
}
