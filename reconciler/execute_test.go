package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stack-run/stack/planner"
)

// trial executes a plan whose actions do nothing but what the test says, and notes their order.
type trial struct {
	*execution
	mu     sync.Mutex
	done   []string
	events []string
	act    map[string]func(context.Context) error // by address
}

func newTrial(t *testing.T, slots int) *trial {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	x := &trial{act: map[string]func(context.Context) error{}}
	x.execution = &execution{r: &Reconciler{ctx: ctx}, stack: "s", slots: make(chan struct{}, slots), sink: func(e Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.events = append(x.events, e.Kind+" "+e.Action.Address)
	}}
	x.do = func(ctx context.Context, a planner.Action) error {
		if f := x.act[a.Address]; f != nil {
			if err := f(ctx); err != nil {
				return err
			}
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.done = append(x.done, a.Address)
		return nil
	}
	return x
}

// planOf makes actions named by letters; "b<a" is b after a, "b?<a" an optional wait.
func planOf(kind planner.Kind, steps ...string) planner.Plan {
	p := planner.Plan{Stack: "s"}
	for i, step := range steps {
		a := planner.Action{ID: i, Kind: kind, Address: step[:1]}
		rest := step[1:]
		if len(rest) > 0 && rest[0] == '?' {
			a.Kind, a.Optional, rest = planner.Wait, true, rest[1:]
		}
		for _, before := range rest[min(1, len(rest)):] {
			a.After = append(a.After, slices.IndexFunc(p.Actions, func(x planner.Action) bool { return x.Address == string(before) }))
		}
		p.Actions = append(p.Actions, a)
	}
	return p
}

func fails(context.Context) error { return errors.New("no") }

func TestPlansAreExecutedInTheirOrder(t *testing.T) {
	for what, c := range map[string]struct {
		steps  []string
		fail   string
		done   []string
		failed int
	}{
		"a chain":                                       {steps: []string{"a", "b<a", "c<b"}, done: []string{"a", "b", "c"}},
		"what comes after a failure is left out":        {steps: []string{"a", "b<a", "c<b"}, fail: "a", failed: 1},
		"what does not is done":                         {steps: []string{"a", "b<a", "x", "y<x"}, fail: "a", done: []string{"x", "y"}, failed: 1},
		"one of two before it fails":                    {steps: []string{"a", "x", "z<ax"}, fail: "a", done: []string{"x"}, failed: 1},
		"an optional wait fails nothing":                {steps: []string{"a", "w?<a", "c<w"}, fail: "w", done: []string{"a", "c"}},
		"an optional wait runs after what failed, too":  {steps: []string{"a", "w?<a", "c<w"}, fail: "a", done: []string{"w", "c"}, failed: 1},
		"a failure further up does not stop what waits": {steps: []string{"a", "b<a", "w?<b", "c<w"}, fail: "a", done: []string{"w", "c"}, failed: 1},
		"nothing": {},
	} {
		x := newTrial(t, 1)
		x.act[c.fail] = fails
		err := x.run(context.Background(), planOf(planner.StartContainer, c.steps...))
		if !slices.Equal(x.done, c.done) {
			t.Errorf("%s: done %v, want %v", what, x.done, c.done)
		}
		var action *ActionError
		if (err != nil) != (c.failed > 0) || err != nil && !errors.As(err, &action) {
			t.Errorf("%s: error %v", what, err)
		}
		if want := len(c.done) - min(1, slices.Index(c.done, "w")+1); x.changed != want {
			t.Errorf("%s: %d changes, want %d", what, x.changed, want)
		}
	}
}

func TestEveryFailureIsReported(t *testing.T) {
	x := newTrial(t, 4)
	x.act["a"], x.act["b"] = fails, fails
	err := x.run(context.Background(), planOf(planner.StartContainer, "a", "b", "c"))
	var all Errors
	if !errors.As(err, &all) || len(all) != 2 {
		t.Errorf("%T %v", err, err)
	}
}

func TestNoMoreIsAtWorkThanThereAreSlots(t *testing.T) {
	const slots = 3
	x := newTrial(t, slots)
	var mu sync.Mutex
	atWork, most := 0, 0
	full := make(chan struct{}) // closed when all slots are taken
	var steps []string
	for i := range 12 {
		name := string(rune('a' + i))
		steps = append(steps, name)
		x.act[name] = func(context.Context) error {
			mu.Lock()
			if atWork++; atWork == slots && most < slots {
				close(full)
			}
			most = max(most, atWork)
			mu.Unlock()
			<-full
			mu.Lock()
			atWork--
			mu.Unlock()
			return nil
		}
	}
	if err := x.run(context.Background(), planOf(planner.StartContainer, steps...)); err != nil {
		t.Fatal(err)
	}
	if most != slots || len(x.done) != 12 {
		t.Errorf("%d at once, %d done", most, len(x.done))
	}
}

func TestWaitsTakeNoSlot(t *testing.T) {
	x := newTrial(t, 1)
	started := make(chan struct{})
	x.act["w"] = func(context.Context) error { <-started; return nil } // ends only when a has run meanwhile
	x.act["a"] = func(context.Context) error { close(started); return nil }
	if err := x.run(context.Background(), planner.Plan{Actions: []planner.Action{
		{ID: 0, Kind: planner.Wait, Address: "w"}, {ID: 1, Kind: planner.StartContainer, Address: "a"},
	}}); err != nil {
		t.Fatal(err)
	}
}

func TestACancelledOperationFinishesWhatItBeganAndSaysThatMoreWasToDo(t *testing.T) {
	for _, kind := range []planner.Kind{planner.StartContainer, planner.PullImage} {
		x := newTrial(t, 1)
		ctx, cancel := context.WithCancel(context.Background())
		x.act["a"] = func(ctx context.Context) error {
			cancel()
			if kind == planner.PullImage { // which may be given up at any time
				<-ctx.Done()
			}
			return ctx.Err()
		}
		err := x.run(ctx, planOf(kind, "a", "b<a"))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", kind, err)
		}
		if want := map[planner.Kind]string{planner.StartContainer: "[a]", planner.PullImage: "[]"}[kind]; fmt.Sprint(x.done) != want {
			t.Errorf("%s: done %v, want %s", kind, x.done, want)
		}
	}
}

func TestAnOperationThatIsCancelledAfterItsLastActionWasDone(t *testing.T) {
	x := newTrial(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	x.act["a"] = func(context.Context) error { cancel(); return nil }
	if err := x.run(ctx, planOf(planner.StartContainer, "a")); err != nil {
		t.Error(err)
	}
}

func TestWhatIsBegunEndsWithTheDaemon(t *testing.T) {
	x := newTrial(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	x.r.ctx = ctx
	x.act["a"] = func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := x.run(context.Background(), planOf(planner.StartContainer, "a")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
