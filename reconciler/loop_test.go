package reconciler

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// kept wakes a stack's loop and waits until it has nothing more to do for now.
func (h *host) kept(name string) {
	h.Helper()
	s := h.stack(name)
	h.wake(s)
	h.Eventually("the loop is at rest", func() bool {
		s.loop.mu.Lock()
		defer s.loop.mu.Unlock()
		return !s.loop.busy
	})
}

// count is how many containers a service has.
func (h *host) count(stack, service string) int {
	n := 0
	for _, v := range h.engine.Service(stack, service) {
		if !v.OneOff {
			n++
		}
	}
	return n
}

// lose removes a service's containers as if they had never been, without a word to whoever keeps them.
func (h *host) lose(stack, service string) {
	h.Helper()
	unlock, err := h.stack(stack).lock(h.Context(), nil)
	h.Must(err)
	defer unlock()
	for _, v := range h.engine.Service(stack, service) {
		h.Must(h.stopContainer(h.Context(), stopRequest{id: v.ID, grace: &zero, halt: true}))
		h.Must(h.removeContainer(h.Context(), v.ID, true))
	}
}

func (h *host) do(name string, op Op) {
	h.Helper()
	_, err := h.Do(h.Context(), name, nil, op, nil)
	h.Must(err)
}

func TestTheLoopMakesAgainWhatIsMissing(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	h.lose("one", "web")
	h.Eventually("web is back", func() bool { return h.count("one", "web") == 1 && h.one("one", "web").State == planner.Running })
}

func TestTheLoopKeepsWhatOperationsWereAboutAndNothingElse(t *testing.T) {
	again := func(h *host) {} // the same holds for the next daemon
	for name, next := range map[string]func(*host){"this daemon": again, "the next daemon": func(h *host) { h.close(); h.open() }} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			web, db, other, made := service("web", "sleep"), service("db", "sleep"), service("other", "sleep"), service("made", "sleep")
			web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Started, Required: true}}
			s := stackOf("one", web, db, other, made)
			up := func(opts planner.Options) {
				t.Helper()
				_, err := h.Up(h.Context(), s, UpOptions{Options: opts}, nil)
				h.Must(err)
			}
			up(planner.Options{Services: []string{"web"}, NoDeps: true})
			up(planner.Options{Services: []string{"made"}, NoStart: true})
			next(h)
			h.kept("one")
			if h.count("one", "db") != 0 || h.count("one", "other") != 0 {
				t.Error("`up --no-deps web` made the loop start others")
			}
			if got := h.one("one", "made").State; got != planner.Created {
				t.Errorf("what was created only is %s", got)
			}
			up(planner.Options{Services: []string{"web"}, Scale: map[string]int{"web": 3}, NoRecreate: true})
			h.lose("one", "web")
			next(h)
			h.Eventually("all three are back", func() bool { return h.count("one", "web") == 3 })
			h.kept("one")
			h.kept("one")
			if got := h.count("one", "db"); got != 1 {
				t.Errorf("db, which web brought along, has %d containers", got)
			}
			h.do("one", func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
				return planner.Stop(o, d, planner.StopOptions{Services: []string{"web"}, Timeout: &zero})
			})
			next(h)
			h.kept("one")
			for _, c := range h.Containers("one") {
				if c.Service == "web" && c.State != planner.Exited {
					t.Errorf("%s was stopped and is %s", c.Name, c.State)
				}
			}
			h.do("one", func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
				return planner.Remove(o, d, planner.RemoveOptions{Services: []string{"web"}})
			})
			next(h)
			h.kept("one")
			if got := h.count("one", "web"); got != 0 {
				t.Errorf("what was removed has %d containers", got)
			}
		})
	}
}

func TestALaterUpOfAnotherServiceLeavesTheLoopsHandsOffTheRest(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep"), service("db", "sleep")))
	before := h.one("one", "db").ID
	changed := service("db", "sleep")
	changed.Environment = map[string]string{"A": "new"}
	_, err := h.Up(h.Context(), stackOf("one", service("web", "sleep"), changed), UpOptions{Options: planner.Options{Services: []string{"web"}}}, nil)
	h.Must(err)
	h.kept("one")
	if got := h.one("one", "db").ID; got != before {
		t.Error("db was made again, which no up was about")
	}
	h.up(stackOf("one", service("web", "sleep"), changed))
	if got := h.one("one", "db").ID; got == before {
		t.Error("an up of all left db as it was")
	}
}

func TestAnInterruptedUpIsFinished(t *testing.T) {
	for name, next := range map[string]func(*host){"its client is gone": func(*host) {}, "its daemon is gone": func(h *host) { h.close(); h.open() }} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			web, db := service("web", "sleep"), service("db", "sleep")
			web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Started, Required: true}}
			h.up(stackOf("one", web, db))
			before := h.one("one", "web").ID
			changed := *web
			changed.Environment = map[string]string{"A": "new"}
			ctx, cancel := context.WithCancel(h.Context())
			_, err := h.Up(ctx, stackOf("one", &changed, db), UpOptions{}, func(e Event) {
				if e.Kind == "done" && e.Action.Kind == planner.StopContainer {
					cancel()
				}
			})
			mentions(t, err, "not everything was done")
			next(h)
			h.Eventually("web is made again", func() bool {
				return h.count("one", "web") == 1 && h.one("one", "web").ID != before && h.one("one", "web").State == planner.Running
			})
		})
	}
}

func TestAnInterruptedDownIsFinished(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep"), service("db", "sleep")))
	ctx, cancel := context.WithCancel(h.Context())
	_, err := h.Down(ctx, "one", nil, planner.DownOptions{Timeout: &zero}, func(e Event) {
		if e.Kind == "done" {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	h.close()
	h.open()
	h.Eventually("nothing is left", func() bool {
		names, err := h.Stacks()
		return err == nil && len(names) == 0
	})
	if left := h.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheLoopMakesNothingAgainBecauseATagHasMoved(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	before := h.one("one", "web")
	old, err := h.Images.Get(h.Context(), before.Image, "")
	h.Must(err)
	moved, err := h.Images.Load(h.Context(), bytes.NewReader(h.Rootfs()), image.LoadOptions{
		Name: before.Image, Config: &image.Config{ImageConfig: ocispec.ImageConfig{Entrypoint: []string{"/box"}, Labels: map[string]string{"new": "1"}}},
	})
	h.Must(err)
	if moved[0].ID == old.ID {
		t.Fatal("it is the same image")
	}
	h.kept("one")
	if h.one("one", "web").ID != before.ID {
		t.Error("it was made again")
	}
	h.lose("one", "web")
	h.Eventually("web is back", func() bool { return h.count("one", "web") == 1 })
	if got := h.one("one", "web").ImageID; got != old.ID {
		t.Errorf("it is made from %s, not from the image of the last up", got)
	}
	h.kept("one")
	h.up(stackOf("one", service("web", "sleep")))
	if got := h.one("one", "web").ImageID; got != moved[0].ID {
		t.Error("an up left it on the old image")
	}
}

func TestWhatFailsIsTriedAgainWithBackOffAndNeverSpins(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	path := filepath.Join(t.TempDir(), "secret")
	h.Must(os.WriteFile(path, nil, 0o600))
	web.Secrets = []spec.FileMount{{Source: "s", Target: "/run/secrets/s"}}
	s := stackOf("one", web)
	s.Secrets = map[string]*spec.File{"s": {Name: "s", File: path}}
	_, err := h.Up(h.Context(), s, UpOptions{Options: planner.Options{NoStart: true}}, nil)
	h.Must(err)
	h.Must(os.Remove(path))
	h.Must(h.changeIntent(h.stack("one"), func(in *intent) { in.Services["web"].Idle = false }))
	start := planner.Action{Kind: planner.StartContainer, Address: "service.web[1]"}
	var first trouble
	h.wake(h.stack("one"))
	h.Eventually("its start has failed", func() bool {
		if t := h.stack("one").loop.troubles.of(start); t != nil {
			first = *t
		}
		return first.Err != nil
	})
	h.kept("one")
	if now := h.stack("one").loop.troubles.of(start); now.Failures != first.Failures && time.Since(first.Last) < firstRetry/2 {
		t.Errorf("it was tried %d times within %s", now.Failures, time.Since(first.Last))
	}
	h.Must(os.WriteFile(path, nil, 0o600))
	h.becomes("one", "web", "running", is(planner.Running))
}

func TestAStackThatIsOnlyObservedIsNotRepaired(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"))
	s.Policy.Reconcile = spec.Observe
	h.up(s)
	h.lose("one", "web")
	h.kept("one")
	if got := h.count("one", "web"); got != 0 {
		t.Errorf("%d containers", got)
	}
}

func TestAfterARestartOfTheDaemonTheOrderOfDependenciesHolds(t *testing.T) {
	h := newHost(t)
	db, web := service("db", "sleep"), service("web", "sleep")
	db.Restart = spec.Restart{Condition: spec.RestartAlways}
	db.Healthcheck = &spec.Healthcheck{Test: []string{"CMD", "/box", "exit", "0"}, Interval: 100 * time.Millisecond}
	web.Restart = spec.Restart{Condition: spec.RestartAlways}
	web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Healthy, Required: true}}
	h.up(stackOf("one", web, db))
	h.close()
	h.KillShim("one")
	h.open()
	started := h.becomes("one", "web", "running", is(planner.Running)).View.State.Started
	d := h.one("one", "db")
	if d.Health != planner.Healthy || d.View.State.Started.After(started) {
		t.Errorf("web started at %s; db started at %s and is %q", started, d.View.State.Started, d.Health)
	}
}

func TestTroublesBackOff(t *testing.T) {
	var all troubles
	a := planner.Action{Kind: planner.StartContainer, Address: "service.web[1]"}
	now := time.Unix(1000, 0)
	last := time.Duration(0)
	for range 20 {
		all.tried(a, runtime.ErrNotRunning, now)
		next := all.next(now)
		wait := next.Sub(now)
		if wait < last/2 || wait > longestRetry*6/5 {
			t.Fatalf("a wait of %s after one of %s", wait, last)
		}
		last, now = wait, next
	}
	if last < longestRetry*4/5 {
		t.Errorf("in the end it waits %s", last)
	}
	now = now.Add(time.Hour)
	for i := range 6 {
		all.tried(a, nil, now)
		if waits := !all.next(now).IsZero(); waits != (i >= unsettled) {
			t.Errorf("repair %d in a row waits: %t", i+1, waits)
		}
	}
	all.forget(planner.Plan{}, now.Add(time.Minute))
	if all.of(a) != nil {
		t.Error("what nobody wants any more is still trouble")
	}
}
