package reconciler

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// These are about what follows from rollouts that fail in unusual ways, or that a user comes back to.

func TestWhatFailsOfARevisionThatHadConvergedPausesAndDoesNotGoBack(t *testing.T) {
	h := newHost(t)
	with := func(version, test string) *spec.Stack {
		svc := rolling(1, version, test, byFile(spec.StartFirst, spec.Rollback))
		svc.Mounts = []spec.Mount{{Type: spec.MountVolume, Source: "shared", Target: "/shared"}}
		s := stackOf("one", svc)
		s.Volumes = map[string]*spec.Volume{"shared": {Key: "shared", Name: "one_shared"}}
		return s
	}
	h.up(with("v1", "/data/seed"))
	h.write("one_shared", "mark")
	h.up(with("v2", "/shared/mark"))
	volume, err := h.volumes.Get("one_shared")
	h.Must(err)
	h.Must(os.Remove(filepath.Join(volume.Mountpoint, "mark")))
	_, err = h.Up(h.Context(), with("v2", "/shared/mark"), UpOptions{Options: planner.Options{ForceRecreate: true}}, nil)
	mentions(t, err, "is unhealthy", "paused")
	if got := h.versions(); strings.Contains(got, "v1") {
		t.Errorf("nobody asked for the first version, and there is %s", got)
	}
	revisions, err := h.Revisions("one")
	h.Must(err)
	if len(revisions) != 2 || revisions[0].Outcome != Converged {
		t.Errorf("revisions: %+v", revisions)
	}
}

func TestARolloutThatPausesAsItsUpIsCutOffHasNotConverged(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", rolling(2, "v1", "/data/seed", byFile(spec.StartFirst, spec.Pause))))
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	_, err := h.Up(ctx, stackOf("one", rolling(2, "v2", "/no/such", byFile(spec.StartFirst, spec.Pause))), UpOptions{}, func(e Event) {
		if e.Kind == "fail" && e.Action.Kind == planner.ServeContainer {
			cancel()
		}
	})
	mentions(t, err, "paused")
	h.kept("one")
	revisions, err := h.Revisions("one")
	h.Must(err)
	if got := revisions[0]; got.Number != 2 || got.Outcome == Converged {
		t.Errorf("revision %d has %s", got.Number, got.Outcome)
	}
	if paused, err := h.Paused("one"); err != nil || len(paused) != 1 {
		t.Errorf("paused: %v %v", paused, err)
	}
}

func TestARolloutThatTheLoopFinishesAndTakesBackIsToldAsThat(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", rolling(1, "v1", "/data/seed", byFile(spec.StartFirst, spec.Rollback))))
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	_, err := h.Up(ctx, stackOf("one", rolling(1, "v2", "/no/such", byFile(spec.StartFirst, spec.Rollback))), UpOptions{}, func(e Event) {
		if e.Kind == "done" && e.Action.Kind == planner.CreateContainer {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("it was not cut off")
	}
	var revisions []Revision
	h.Eventually("the loop has gone back", func() bool {
		revisions, err = h.Revisions("one")
		return err == nil && len(revisions) == 3 && revisions[0].Outcome == Converged
	})
	if revisions[1].Outcome != RolledBack {
		t.Errorf("what failed has %s", revisions[1].Outcome)
	}
	if got := h.versions(); got != "one-web-1 v1" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestAPauseEndsWithAnyUpThatIsAboutTheService(t *testing.T) {
	h := newHost(t)
	with := func(version, test string) *spec.Stack {
		app := service("app", "sleep")
		app.DependsOn = map[string]spec.Dependency{"web": {Condition: spec.Started, Required: true}}
		return stackOf("one", rolling(1, version, test, byFile(spec.StopFirst, spec.Pause)), app, service("other", "sleep"))
	}
	web := func() (all []string) {
		for _, v := range h.engine.Service("one", "web") {
			all = append(all, (*v.Spec.Command)[1])
		}
		return all
	}
	h.up(with("v1", "/data/seed"))
	_, err := h.Up(h.Context(), with("v2", "/no/such"), UpOptions{}, nil)
	mentions(t, err, "paused")
	for _, c := range []struct {
		service, runs string
		paused        int
	}{{"other", "v2", 1}, {"app", "v3", 0}} {
		_, err := h.Up(h.Context(), with("v3", "/data/seed"), UpOptions{Options: planner.Options{Services: []string{c.service}}}, nil)
		h.Must(err)
		paused, err := h.Paused("one")
		if got := web(); err != nil || len(paused) != c.paused || !slices.Equal(got, []string{c.runs}) {
			t.Errorf("after an up of %s %d are paused (%v), and web runs %v", c.service, len(paused), err, got)
		}
	}
}

func TestADamagedRecordOfPausesKeepsNobodyFromPlanning(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", rolling(1, "v1", "/data/seed", byFile(spec.StopFirst, spec.Pause))))
	h.Must(os.WriteFile(h.pausedPath("one"), []byte("{torn"), 0o600))
	next := stackOf("one", rolling(1, "v2", "/data/seed", byFile(spec.StopFirst, spec.Pause)))
	if plan, err := h.PlanUp(h.Context(), next, planner.Options{}); err != nil || len(plan.Actions) == 0 {
		t.Errorf("%d actions are planned: %v", len(plan.Actions), err)
	}
	h.lose("one", "web")
	h.Eventually("the loop has made it again", func() bool { return h.count("one", "web") == 1 })
	h.up(next)
	if paused, err := h.Paused("one"); err != nil || len(paused) > 0 {
		t.Errorf("after an up: %v %v", paused, err)
	}
}

func TestWhatHadRunToItsEndMayDoSoInARollout(t *testing.T) {
	h := newHost(t)
	with := func(version string) *spec.Stack {
		svc := service("web", "echo", version)
		config := byFile(spec.StopFirst, spec.Pause)
		svc.UpdateConfig = &config
		return stackOf("one", svc)
	}
	h.up(with("v1"))
	h.becomes("one", "web", "over", is(planner.Exited))
	h.up(with("v2"))
	if s := h.one("one", "web"); (*s.Spec.Command)[1] != "v2" {
		t.Errorf("there is %v", *s.Spec.Command)
	}
}

func TestAnUpdateInPlaceOfASuccessorKeepsTheNameThatItWillHave(t *testing.T) {
	h := newHost(t)
	with := func(version, test string, aliases ...string) *spec.Stack {
		svc := rolling(1, version, test, byFile(spec.StartFirst, spec.Pause))
		svc.Networks = map[string]*spec.Attachment{"default": {Aliases: aliases}}
		return stackOf("one", svc)
	}
	h.up(with("v1", "/data/seed"))
	successor := func() Status {
		all := h.Containers("one")
		i := slices.IndexFunc(all, func(s Status) bool { return s.Succeeds != "" })
		if i < 0 {
			t.Fatalf("no successor among %s", h.versions())
		}
		return all[i]
	}
	_, err := h.Up(h.Context(), with("v2", "/no/such"), UpOptions{}, nil)
	mentions(t, err, "paused")
	before := successor()
	_, err = h.Up(h.Context(), with("v2", "/no/such", "alias"), UpOptions{}, nil)
	mentions(t, err, "paused")
	after := successor()
	names := after.Endpoints[0].Names
	if after.ID != before.ID || !slices.Contains(names, "alias") || !slices.Contains(names, "one-web-1") || slices.Contains(names, after.Name) {
		t.Errorf("%.12s, which was %.12s, is known as %v", after.ID, before.ID, names)
	}
}
