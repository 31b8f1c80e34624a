package reconciler

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// These are about who waits for whom, and who does not.

func TestCloseAndAStartDoNotWaitForEachOther(t *testing.T) {
	h := newHost(t)
	k := h.stack("one").keeper("some container")
	k.mu.Lock() // as who decides about a container's start
	closed, spawned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		h.Reconciler.Close()
	}()
	<-h.ctx.Done()
	go func() {
		defer close(spawned)
		h.spawn(func() {})
	}()
	select {
	case <-spawned:
	case <-time.After(10 * time.Second):
		t.Error("each waits for the other")
	}
	k.mu.Unlock()
	<-closed
}

func TestWhatOthersDoIsPutRightWhileAStackIsAtWork(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	h.up(stackOf("two", service("web", "sleep")))
	h.kept("one")
	h.kept("two")
	unlock, err := h.stack("one").lock(h.Context(), nil) // by an operation that takes long
	h.Must(err)
	network := filepath.Join(h.Root, "networks", "two_default.json")
	if _, err := os.Stat(network); err != nil {
		t.Fatal(err)
	}
	h.Must(os.WriteFile(h.intentPath("one"), []byte("{}"), 0o600))
	h.Must(os.Remove(network))
	h.Eventually("the other stack's network is on record again", func() bool {
		_, err := os.Stat(network)
		return err == nil
	})
	unlock()
	h.Eventually("so is what was asked of the stack", func() bool {
		data, err := os.ReadFile(h.intentPath("one"))
		return err == nil && len(data) > len("{}")
	})
}

// Who starts something does not want it taken down any more.
func TestAStartEndsADownThatWasCutOff(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep"), service("db", "sleep")))
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	started := make(chan error, 1)
	var once sync.Once
	_, err := h.Down(ctx, "one", nil, planner.DownOptions{Timeout: &zero}, func(e Event) {
		if e.Kind != "done" {
			return
		}
		once.Do(func() {
			go func() {
				_, err := h.Do(h.Context(), "one", nil, func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
					return planner.Start(o, d, planner.StartOptions{})
				}, nil)
				started <- err
			}()
			h.Eventually("the start waits for the down", func() bool {
				l := &h.stack("one").loop
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.wanted > 0
			})
			cancel()
		})
	})
	if err == nil {
		t.Fatal("the down was not cut off")
	}
	h.Must(<-started)
	h.kept("one")
	for _, name := range []string{"web", "db"} {
		h.Eventually(name+" runs", func() bool { return h.count("one", name) == 1 && h.one("one", name).State == planner.Running })
	}
}

// A job that waits for what it depends on is no reason for a user to wait.
func TestAJobThatWaitsMakesWayForUsers(t *testing.T) {
	h, clock := newJobHost(t)
	with := func(test string) *spec.Stack {
		s, job := jobOf("echo", "done")
		db := checked("db", test)
		db.Healthcheck.StartPeriod = time.Hour
		s.Services["db"] = db
		job.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Healthy, Required: true}}
		return s
	}
	h.up(with("/no/such"))
	h.kept("one")
	clock.set(noon.Add(time.Hour))
	held := 0
	h.Eventually("the job holds the stack, waiting", func() bool {
		if held++; !h.Busy("one") {
			held = 0
		}
		return held == 50
	})
	begun := time.Now()
	h.up(with("/data/seed"))
	t.Logf("the up took %s", time.Since(begun))
	h.runs("one that succeeded", states(RunSucceeded))
}

func TestAnotherAttemptOfAJobStartsNothingThatAUserStopped(t *testing.T) {
	h, clock := newJobHost(t)
	s, job := jobOf("exit", "3")
	s.Services["db"] = service("db", "sleep")
	job.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Started, Required: true}}
	job.Runs = spec.RunPolicy{Retries: 1}
	h.up(s)
	_, err := h.RunJob("one", "job")
	h.Must(err)
	run := h.runs("one to be tried again", states(RunRetrying))[0]
	db := h.one("one", "db")
	h.Must(h.stopContainer(h.Context(), stopRequest{id: db.ID, grace: &zero}))
	clock.set(run.RetryAt)
	h.runs("one that is over", func(runs []Run) bool { return len(runs) == 1 && runs[0].Attempt == 2 && runs[0].Over() })
	if now := h.one("one", "db"); now.State != planner.Exited {
		t.Errorf("what a user stopped is %s", now.State)
	}
}
