package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// rolling is a checked service of some replicas, replaced as the file says; version makes it another one.
func rolling(replicas int, version, test string, config spec.Rollout) *spec.Service {
	svc := checked("web", test)
	svc.Command = &[]string{"echo", version, ";", "sleep"}
	svc.Replicas, svc.UpdateConfig = replicas, &config
	return svc
}

func byFile(order, action string) spec.Rollout {
	return spec.Rollout{Parallelism: 1, FailureAction: action, Order: order, Monitor: 100 * time.Millisecond}
}

// versions are the containers of web as "name version readiness", sorted.
func (h *host) versions() string {
	var all []string
	for _, s := range h.Containers("one") {
		version := (*s.Spec.Command)[1]
		if ready := readiness(s.View); ready != netdriver.Serving {
			version += " " + string(ready)
		}
		all = append(all, s.Name+" "+version)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// least follows a stack's containers and tells how few of a service served at any time.
func (h *host) least(ctx context.Context, service string) func() int {
	least, done := 1000, make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		for {
			changed := h.Changed("one")
			n := 0
			for _, v := range h.engine.Service("one", service) {
				if readiness(v) == netdriver.Serving {
					n++
				}
			}
			least = min(least, n)
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		return least
	}
}

func TestStartFirstServesAllTheTimeAndLeavesTheNamesAsTheyWere(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", rolling(2, "v1", "/data/seed", byFile(spec.StartFirst, spec.Pause))))
	h.Eventually("all of the first version serve", func() bool { return !strings.Contains(h.versions(), "standby") })
	least := h.least(h.Context(), "web")
	h.up(stackOf("one", rolling(2, "v2", "/data/seed", byFile(spec.StartFirst, spec.Pause))))
	if n := least(); n < 2 {
		t.Errorf("only %d served", n)
	}
	if got := h.versions(); got != "one-web-1 v2, one-web-2 v2" {
		t.Errorf("in the end there is %s", got)
	}
	for _, s := range h.Containers("one") {
		if s.Succeeds != "" || s.Endpoints[0].Container != s.Name || s.Labels[labelNumber] != fmt.Sprint(s.Replica) {
			t.Errorf("%s: successor of %q, endpoint %+v, labels %v", s.Name, s.Succeeds, s.Endpoints[0], s.Labels)
		}
	}
	if n := h.up(stackOf("one", rolling(2, "v2", "/data/seed", byFile(spec.StartFirst, spec.Pause)))); n != 0 {
		t.Errorf("another up did %d things", n)
	}
}

func TestStopFirstReplacesOneAfterTheOther(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", rolling(3, "v1", "/data/seed", byFile(spec.StopFirst, spec.Pause))))
	h.Eventually("all of the first version serve", func() bool { return !strings.Contains(h.versions(), "standby") })
	least := h.least(h.Context(), "web")
	h.up(stackOf("one", rolling(3, "v2", "/data/seed", byFile(spec.StopFirst, spec.Pause))))
	if n := least(); n != 2 {
		t.Errorf("as few as %d served at a time", n)
	}
	if got := h.versions(); got != "one-web-1 v2, one-web-2 v2, one-web-3 v2" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestARolloutThatFailsPausesAndTheLoopLeavesItSo(t *testing.T) {
	for order, want := range map[string]string{
		spec.StartFirst: "one-web-1 v1, one-web-2 v1, NEW_one-web-1 v2 standby",
		spec.StopFirst:  "one-web-1 v2 standby, one-web-2 v1",
	} {
		t.Run(order, func(t *testing.T) {
			h := newHost(t)
			h.up(stackOf("one", rolling(2, "v1", "/data/seed", byFile(order, spec.Pause))))
			first := h.engine.Service("one", "web")[0].ID
			broken := stackOf("one", rolling(2, "v2", "/no/such", byFile(order, spec.Pause)))
			_, err := h.Up(h.Context(), broken, UpOptions{}, nil)
			mentions(t, err, "is unhealthy", "/no/such", "1 of 2 new containers failed", "paused")
			want := strings.Replace(want, "NEW", first[:12], 1)
			have := strings.Split(want, ", ")
			slices.Sort(have)
			if got := h.versions(); got != strings.Join(have, ", ") {
				t.Errorf("there is %s, not %s", got, want)
			}
			plan, err := h.PlanUp(h.Context(), broken, planner.Options{KeepStopped: true})
			if err != nil || len(plan.Actions) > 0 {
				t.Errorf("the loop would do %s%v", planner.Render(plan, planner.RenderOptions{Verbose: true}), err)
			}
			status, err := h.StackStatus(h.Context(), "one")
			h.Must(err)
			if i := slices.IndexFunc(status.Addresses, func(a AddressStatus) bool { return a.Address == "service.web" }); status.OK || i < 0 ||
				status.Addresses[i].Condition != "rollout paused" || !strings.Contains(status.Addresses[i].Reason, "unhealthy") {
				t.Errorf("status: %+v", status)
			}
			h.close()
			h.open()
			if paused, err := h.Paused("one"); err != nil || !strings.Contains(paused["web"].Why, "unhealthy") {
				t.Errorf("the next daemon knows of %v %v", paused, err)
			}
			h.up(stackOf("one", rolling(2, "v3", "/data/seed", byFile(order, spec.Pause))))
			if got := h.versions(); got != "one-web-1 v3, one-web-2 v3" {
				t.Errorf("in the end there is %s", got)
			}
			if paused, _ := h.Paused("one"); len(paused) > 0 {
				t.Errorf("still paused: %v", paused)
			}
		})
	}
}

func TestARolloutThatFailsGoesBackByItself(t *testing.T) {
	for _, order := range []string{spec.StartFirst, spec.StopFirst} {
		t.Run(order, func(t *testing.T) {
			h := newHost(t)
			h.up(stackOf("one", rolling(3, "v1", "/data/seed", byFile(order, spec.Rollback))))
			before := h.engine.Service("one", "web")
			_, err := h.Up(h.Context(), stackOf("one", rolling(3, "v2", "/no/such", byFile(order, spec.Rollback))), UpOptions{}, nil)
			mentions(t, err, "is unhealthy", "rolled back to revision 1")
			var fault *ContainerError
			if !errors.As(err, &fault) || !slices.Contains(fault.Logs, "v2") {
				t.Errorf("the failed container's log is not told: %+v", fault)
			}
			if got := h.versions(); got != "one-web-1 v1, one-web-2 v1, one-web-3 v1" {
				t.Errorf("in the end there is %s", got)
			}
			for _, v := range before {
				now, err := h.engine.Get(v.ID)
				replaced := order == spec.StopFirst && v.Replica == 1
				if gone := err != nil; gone != replaced || !gone && now.Restarts > 0 {
					t.Errorf("%s, which had not failed: %v", v.Name, err)
				}
			}
			revisions, err := h.Revisions("one")
			h.Must(err)
			if len(revisions) != 3 || revisions[0].Outcome != Converged || revisions[0].Cause.Command != "rollback" || revisions[1].Outcome != RolledBack {
				t.Errorf("revisions: %+v", revisions)
			}
			desired, err := h.Desired("one")
			h.Must(err)
			plan, err := h.PlanUp(h.Context(), desired, planner.Options{KeepStopped: true})
			if err != nil || len(plan.Actions) > 0 {
				t.Errorf("the loop would do %s%v", planner.Render(plan, planner.RenderOptions{Verbose: true}), err)
			}
		})
	}
}

func TestARolloutGoesOnWhileNoMoreFailThanMay(t *testing.T) {
	h := newHost(t)
	config := byFile(spec.StopFirst, spec.Pause)
	config.MaxFailureRatio = 0.5
	h.up(stackOf("one", rolling(2, "v1", "/data/seed", config)))
	// The second replica finds what the first one, which fails, leaves on their volume.
	v2 := rolling(2, "v2", "/shared/mark", config)
	v2.Mounts = []spec.Mount{{Type: spec.MountVolume, Source: "shared", Target: "/shared"}}
	s := stackOf("one", v2)
	s.Volumes = map[string]*spec.Volume{"shared": {Key: "shared", Name: "one_shared"}}
	var mu sync.Mutex
	var warned []string
	_, err := h.Up(h.Context(), s, UpOptions{}, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == "warning" {
			warned = append(warned, e.Text)
			h.write("one_shared", "mark")
		}
	})
	h.Must(err)
	if len(warned) != 1 || !strings.Contains(warned[0], "is unhealthy") {
		t.Errorf("warnings: %q", warned)
	}
	h.Eventually("both are of the new version", func() bool { return h.versions() == "one-web-1 v2, one-web-2 v2" })
}

func TestARolloutContinuesWhenToldTo(t *testing.T) {
	h := newHost(t)
	config := byFile(spec.StopFirst, spec.Continue)
	h.up(stackOf("one", rolling(2, "v1", "/data/seed", config)))
	_, err := h.Up(h.Context(), stackOf("one", rolling(2, "v2", "/no/such", config)), UpOptions{}, nil)
	mentions(t, err, "one-web-1 is unhealthy", "one-web-2 is unhealthy")
	if got := h.versions(); got != "one-web-1 v2 standby, one-web-2 v2 standby" {
		t.Errorf("in the end there is %s", got)
	}
	if paused, _ := h.Paused("one"); len(paused) > 0 {
		t.Errorf("paused: %v", paused)
	}
}

func TestAContainerThatEndsWhileItIsWatchedFailsTheRollout(t *testing.T) {
	h := newHost(t)
	config := byFile(spec.StartFirst, spec.Rollback)
	config.Monitor = time.Minute
	good := service("web", "echo", "v1", ";", "sleep")
	quick := config
	quick.Monitor = 0
	good.UpdateConfig = &quick
	h.up(stackOf("one", good))
	bad := service("web", "echo", "v2", ";", "sleep")
	bad.UpdateConfig = &config
	bad.RollbackConfig = &quick
	began := time.Now()
	_, err := h.Up(h.Context(), stackOf("one", bad), UpOptions{}, func(e Event) {
		if e.Kind == "start" && e.Action.Kind == planner.Monitor {
			go h.kill("web") // once it serves
		}
	})
	mentions(t, err, "exited (137)", "rolled back")
	if time.Since(began) > 50*time.Second {
		t.Errorf("it took %s to see", time.Since(began))
	}
	h.Eventually("the old version serves", func() bool { return h.versions() == "one-web-1 v1" })
}

func TestARolloutWaitsForWhatEndedWithItsShim(t *testing.T) {
	h := newHost(t)
	config := byFile(spec.StartFirst, spec.Pause)
	h.up(stackOf("one", rolling(1, "v1", "/data/seed", config)))
	var once sync.Once
	_, err := h.Up(h.Context(), stackOf("one", rolling(1, "v2", "/data/seed", config)), UpOptions{}, func(e Event) {
		if e.Kind == "start" && e.Action.Kind == planner.ServeContainer {
			once.Do(func() { h.KillShim("one") })
		}
	})
	h.Must(err)
	h.Eventually("the new version serves", func() bool { return h.versions() == "one-web-1 v2" })
}

// TestARolloutCutShortAnywhereIsFinished ends a start-first rollout after each of its actions, lets another daemon take
// over, and finishes it.
func TestARolloutCutShortAnywhereIsFinished(t *testing.T) {
	h := newHost(t)
	config := byFile(spec.StartFirst, spec.Pause)
	config.Monitor = 0
	h.up(stackOf("one", rolling(2, "v0", "/data/seed", config)))
	points := 0
	for cut := 0; ; cut++ {
		s := stackOf("one", rolling(2, fmt.Sprintf("v%d", cut+1), "/data/seed", config))
		unlock, err := h.stack("one").lock(h.Context(), nil)
		h.Must(err)
		plan, observed, err := h.planUp(h.Context(), s, planner.Options{})
		h.Must(err)
		if cut == len(plan.Actions) {
			unlock()
			break
		}
		_, err = h.begin(h.stack("one"), s, observed, UpOptions{}, 0)
		h.Must(err)
		x := h.execution("one", s, nil)
		left, act := cut, x.do
		var mu sync.Mutex
		x.do = func(ctx context.Context, a planner.Action) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left < 0 {
				return errSkipped
			}
			return act(ctx, a)
		}
		h.Must(x.run(h.Context(), plan))
		h.Reconciler.Close() // before the loop goes on with it
		unlock()
		h.close()
		h.open()
		points++
		h.up(s)
		if got := h.versions(); got != fmt.Sprintf("one-web-1 v%d, one-web-2 v%d", cut+1, cut+1) {
			t.Fatalf("cut short after %d actions, in the end there is %s", cut, got)
		}
		if n := h.up(s); n != 0 {
			t.Fatalf("cut short after %d actions, there are still %d things to do", cut, n)
		}
	}
	t.Logf("%d points", points)
}

// write makes a file on a volume.
func (h *host) write(volume, name string) {
	v, err := h.volumes.Get(volume)
	if err == nil {
		err = os.WriteFile(filepath.Join(v.Mountpoint, name), nil, 0o644)
	}
	if err != nil {
		h.Error(err)
	}
}

// kill ends a service's processes as nobody asked for.
func (h *host) kill(service string) {
	for _, v := range h.engine.Service("one", service) {
		_ = h.engine.Signal(context.Background(), v.ID, 9)
	}
}
