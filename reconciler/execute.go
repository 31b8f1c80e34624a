package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
)

// Event tells what an operation is doing.
type Event struct {
	Kind     string // start, done, fail, progress, note, warning
	Time     time.Time
	Action   planner.Action
	Address  string // of notes and warnings
	Text     string
	Err      error
	Progress image.Progress
}

// Sink receives the events of an operation, from several goroutines.
type Sink func(Event)

// ActionError is a failed action.
type ActionError struct {
	Action planner.Action
	Err    error
}

func (e *ActionError) Error() string { return fmt.Sprintf("%s: %v", e.Action.Address, e.Err) }
func (e *ActionError) Unwrap() error { return e.Err }

// errSkipped marks an action that was not tried because one before it failed.
var errSkipped = errors.New("skipped")

// execution is one plan on its way.
type execution struct {
	r       *Reconciler
	stack   string
	desired *spec.Stack // may be nil: operations on what runs
	sink    Sink
	slots   chan struct{} // bounds the actions at work
	do      func(context.Context, planner.Action) error

	rollouts map[string]*rollout // by service, of the plan that is executed

	mu      sync.Mutex
	old     map[string]runtime.View // containers as they were when the plan was made, by id
	created map[string]string       // address to the id of the container made for it
	changed int

	// images are what containers are made from in the place of what their services' tags point to, by service.
	images map[string]string
	goesOn map[string]bool // addresses that the plan starts something at
}

func (r *Reconciler) execution(name string, desired *spec.Stack, sink Sink) *execution {
	x := &execution{
		r: r, stack: name, desired: desired, sink: sink,
		// Container starts are bound by the processor; a few more than cores hide what waits for the disk.
		slots:   make(chan struct{}, max(4, 2*goruntime.NumCPU())),
		old:     map[string]runtime.View{},
		created: map[string]string{},
	}
	x.do = x.act
	for _, v := range r.engine.List(name) {
		x.old[v.ID] = v
	}
	return x
}

// Errors are several failures of one operation.
type Errors []error

func (e Errors) Error() string { return errors.Join(e...).Error() }

// Unwrap lets errors.Is and errors.As look into each.
func (e Errors) Unwrap() []error { return e }

// joined is nil for none, the error itself for one, and Errors for more.
func joined(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return Errors(errs)
}

// run executes a plan: each action as soon as those before it are done. An action that fails holds up only what comes
// after it. The errors of all failed actions are returned together; when ctx ended before all was tried, its error is among
// them.
func (x *execution) run(ctx context.Context, plan planner.Plan) error {
	for _, n := range plan.Notes {
		text := n.Text
		if n.Remedy != "" {
			text += "; " + n.Remedy
		}
		x.emit(Event{Kind: "note", Address: n.Address, Text: text})
	}
	x.beginRollouts(plan)
	type result struct {
		id  int
		err error
	}
	x.goesOn = map[string]bool{}
	for _, a := range plan.Actions {
		x.goesOn[a.Address] = x.goesOn[a.Address] || a.Kind == planner.StartContainer
	}
	results := make(chan result)
	waitingFor := make([]int, len(plan.Actions))
	failed := make([]bool, len(plan.Actions))
	dependents := plan.Dependents()
	running := 0
	launch := func(id int, skip bool) {
		running++
		go func() {
			if skip {
				results <- result{id, errSkipped}
				return
			}
			results <- result{id, x.perform(ctx, plan.Actions[id])}
		}()
	}
	for i, a := range plan.Actions {
		if waitingFor[i] = len(a.After); waitingFor[i] == 0 {
			launch(i, false)
		}
	}
	var errs []error
	skipped := false
	for running > 0 {
		res := <-results
		running--
		skipped = skipped || errors.Is(res.err, errSkipped)
		if res.err != nil && !errors.Is(res.err, errSkipped) {
			errs = append(errs, res.err)
		}
		for _, next := range dependents[res.id] {
			// A wait that may fail starts when what it waits for has been tried, and never fails itself. So does a monitor, which
			// knows how much may fail.
			if res.err != nil && !plan.Actions[next].Optional && plan.Actions[next].Kind != planner.Monitor {
				failed[next] = true
			}
			if waitingFor[next]--; waitingFor[next] == 0 {
				launch(next, failed[next])
			}
		}
	}
	if err := ctx.Err(); err != nil && skipped && !slices.ContainsFunc(errs, func(e error) bool { return errors.Is(e, err) }) {
		errs = append(errs, fmt.Errorf("stack %s: not everything was done: %w", x.stack, err))
	}
	return joined(errs)
}

// perform runs one action and reports it.
func (x *execution) perform(ctx context.Context, a planner.Action) error {
	if !mostlyWaits(a.Kind) {
		x.slots <- struct{}{}
		defer func() { <-x.slots }()
	}
	if ctx.Err() != nil {
		return errSkipped
	}
	x.emit(Event{Kind: "start", Action: a})
	if !canEndEarly(a.Kind) {
		var end context.CancelFunc
		ctx, end = x.r.begun(ctx)
		defer end()
	}
	err := x.do(ctx, a)
	if err != nil && a.Optional {
		x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: err.Error()})
		err = nil
	}
	if errors.Is(err, errSkipped) {
		return err
	}
	if err != nil {
		err = &ActionError{Action: a, Err: err}
		x.emit(Event{Kind: "fail", Action: a, Err: err})
		return err
	}
	if !onlyWaits(a.Kind) {
		x.mu.Lock()
		x.changed++
		x.mu.Unlock()
	}
	if x.r.acted != nil {
		x.r.acted()
	}
	x.emit(Event{Kind: "done", Action: a})
	return nil
}

// mostlyWaits tells whether an action does little but wait for others: for a process to end, for a condition, for a registry.
// All of these run at once.
func mostlyWaits(k planner.Kind) bool {
	switch k {
	case planner.Wait, planner.StopContainer, planner.KillContainer, planner.PullImage, planner.RemoveContainer, planner.PreStart, planner.PostStart,
		planner.ServeContainer, planner.DrainContainer, planner.Monitor, planner.Delay:
		return true
	}
	return false
}

// onlyWaits tells whether an action changes nothing.
func onlyWaits(k planner.Kind) bool {
	return k == planner.Wait || k == planner.Monitor || k == planner.Delay
}

// canEndEarly tells whether an action may be given up at any moment: it leaves nothing half-made.
func canEndEarly(k planner.Kind) bool {
	return k == planner.PullImage || k == planner.StopContainer || k == planner.PreStart || k == planner.PostStart || k == planner.ServeContainer ||
		k == planner.DrainContainer || onlyWaits(k)
}

func (x *execution) emit(e Event) {
	if x.sink == nil {
		return
	}
	e.Time = time.Now()
	x.sink(e)
}

// act does what an action says.
func (x *execution) act(ctx context.Context, a planner.Action) error {
	switch a.Kind {
	case planner.PullImage:
		return x.pull(ctx, a)
	case planner.CreateNetwork, planner.RepairNetwork:
		return x.ensureNetwork(ctx, a)
	case planner.RemoveNetwork:
		return ignoreNotFound(x.r.networks.Remove(ctx, a.Name))
	case planner.RepairVolume:
		return x.repairVolume(ctx, a)
	case planner.RepairContainer:
		return x.repair(ctx, a)
	case planner.CreateVolume:
		return x.ensureVolume(ctx, a)
	case planner.RemoveVolume:
		return ignoreNotFound(x.r.volumes.Remove(ctx, a.Name))
	case planner.RemoveImage:
		_, err := x.r.images.Remove(ctx, a.Name, false)
		if errors.Is(err, image.ErrInUse) {
			x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: err.Error()})
			return nil
		}
		return ignoreNotFound(err)
	case planner.CreateContainer:
		return x.create(ctx, a)
	case planner.StartContainer:
		return x.start(ctx, a)
	case planner.StopContainer:
		if a.Hold {
			if err := x.r.hold(ctx, a.ContainerID, a.Timeout); err != nil {
				return err
			}
		}
		return x.r.stopContainer(ctx, stopRequest{id: a.ContainerID, grace: a.Timeout, halt: x.goesOn[a.Address], warn: func(text string) {
			x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: text})
		}})
	case planner.KillContainer:
		return x.kill(ctx, a)
	case planner.AddJob, planner.UpdateJob, planner.RemoveJob, planner.SuspendJob, planner.ResumeJob:
		return x.doJob(a)
	case planner.PreStart:
		return x.preStart(ctx, a)
	case planner.PostStart:
		return x.r.postStart(ctx, x.container(a))
	case planner.RemoveContainer:
		return x.remove(ctx, a)
	case planner.UpdateContainer:
		return x.update(ctx, a)
	case planner.PauseContainer:
		return x.r.engine.Pause(ctx, a.ContainerID)
	case planner.UnpauseContainer:
		return x.r.engine.Unpause(ctx, a.ContainerID)
	case planner.ServeContainer:
		return x.serve(ctx, a)
	case planner.DrainContainer:
		return x.r.drain(ctx, a.ContainerID, a.Timeout)
	case planner.RenameContainer:
		return x.r.rename(x.container(a), a.To)
	case planner.Monitor:
		return x.monitor(ctx, a)
	case planner.Delay:
		return x.delay(ctx, a)
	case planner.Wait:
		return x.r.waitFor(ctx, cmp.Or(a.Stack, x.stack), a.Service, a.Condition)
	}
	return fmt.Errorf("the plan holds an action of unknown kind %q", a.Kind)
}

func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}
