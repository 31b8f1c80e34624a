package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

func TestStatusTellsWhetherAllIsWell(t *testing.T) {
	now := time.Now()
	web := api.AddressStatus{Address: "service.web[1]", Name: "demo-web-1", State: "running", Condition: "ready", Since: now.Add(-3 * time.Hour), OK: true}
	broken := api.AddressStatus{
		Address: "network.default", State: "present", Condition: "drifted", Drift: "bridge is missing", Next: "repair network: drifted",
		NextTry: now.Add(time.Minute), Failures: 4,
	}
	for name, c := range map[string]struct {
		status api.StackStatus
		code   int
		words  []string
	}{
		"all is well": {api.StackStatus{Stack: "demo", OK: true, Reconcile: "repair", Addresses: []api.AddressStatus{web}}, 0, []string{"service.web[1]", "ready", "3 hours ago", "all is well"}},
		"drift":       {api.StackStatus{Stack: "demo", Reconcile: "suspended", Addresses: []api.AddressStatus{web, broken}}, 2, []string{"bridge is missing", "repair network", "failed 4 times", "stack resume"}},
		"an error":    {api.StackStatus{Stack: "demo", Error: "its record is damaged", NextTry: now.Add(time.Minute)}, 2, []string{"its record is damaged", "looks again in"}},
		"nothing":     {api.StackStatus{Stack: "demo", OK: true}, 0, []string{"nothing is asked of it"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t, &recorder{status: c.status}, demo)
			r := s.stack("status")
			if r.code != c.code {
				t.Errorf("exit code %d, want %d: %s%s", r.code, c.code, r.out, r.err)
			}
			for _, word := range c.words {
				if !strings.Contains(r.out, word) {
					t.Errorf("it does not say %q:\n%s", word, r.out)
				}
			}
			if r := s.stack("status", "--format", "json"); !strings.Contains(r.out, `"stack":"demo"`) || r.code != c.code {
				t.Errorf("as JSON, with exit code %d: %s", r.code, r.out)
			}
		})
	}
}

func TestSuspendAndResumeNameTheStack(t *testing.T) {
	b := &recorder{}
	s := newSandbox(t, b, demo)
	for _, args := range [][]string{{"suspend"}, {"resume"}, {"suspend", "other"}} {
		if r := s.stack(args...); r.code != 0 {
			t.Error(r.err)
		}
	}
	if got := strings.Join(b.calls, ", "); got != "suspend demo true, suspend demo false, suspend other true" {
		t.Error(got)
	}
}
