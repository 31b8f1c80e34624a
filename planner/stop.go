package planner

import (
	"time"

	"github.com/stack-run/stack/spec"
)

// StopOptions of a stop.
type StopOptions struct {
	Services []string       // named by the user; empty is all
	Timeout  *time.Duration // nil: each service's stop_grace_period
}

// Stop plans `stop`: dependents stop before what they depend on. Containers without a process that would be
// started by the daemon are stopped too, so that they stay as they are. desired may be nil.
func Stop(observed *Observed, desired *spec.Stack, opts StopOptions) (Plan, error) {
	e, err := newExisting(observed, desired, opts.Services)
	if err != nil {
		return Plan{}, err
	}
	stops := map[string][]int{}
	for _, c := range e.chosen(opts.Services) {
		if !hasProcess(c) && !loopStarts(c) {
			continue
		}
		stop := e.action(StopContainer, c)
		stop.Timeout = opts.Timeout
		stops[c.Service] = append(stops[c.Service], e.add(e.rank(c.Service), stop))
	}
	e.dependentsFirst(stops)
	switchJobs(&e.draft, observed, opts.Services, SuspendJob)
	return e.seal()
}

// loopStarts tells whether the daemon would start a container that has no process.
func loopStarts(c *Container) bool {
	switch c.State {
	case Created:
		return !c.Stopped
	case Exited:
		return c.Due || policyStarts(c, c.Spec.Restart)
	}
	return false
}

// KillOptions of a kill.
type KillOptions struct {
	Services      []string // named by the user; empty is all
	Signal        string   // empty: SIGKILL
	RemoveOrphans bool     // kill containers of services that the file doesn't have, too
}

// Kill plans `kill`: the signal goes to all at once. desired may be nil.
func Kill(observed *Observed, desired *spec.Stack, opts KillOptions) (Plan, error) {
	e, err := newExisting(observed, desired, opts.Services)
	if err != nil {
		return Plan{}, err
	}
	targets := e.chosen(opts.Services)
	if opts.RemoveOrphans {
		for i := range observed.Containers {
			if c := &observed.Containers[i]; isOrphan(e.stack, c) {
				targets = append(targets, c)
			}
		}
	}
	for _, c := range targets {
		if c.State == Running || c.State == Paused {
			kill := e.action(KillContainer, c)
			kill.Signal = opts.Signal
			e.add(e.rank(c.Service), kill)
		}
	}
	if len(e.plan.Actions) == 0 {
		e.note("", "no container to kill", "")
	}
	return e.seal()
}

// Pause plans `pause` of the named services, or of all. desired may be nil.
func Pause(observed *Observed, desired *spec.Stack, services []string) (Plan, error) {
	return toAll(observed, desired, services, Running, PauseContainer)
}

// Unpause plans `unpause` of the named services, or of all. desired may be nil.
func Unpause(observed *Observed, desired *spec.Stack, services []string) (Plan, error) {
	return toAll(observed, desired, services, Paused, UnpauseContainer)
}

// toAll plans the same action on all chosen containers in a state, in no order.
func toAll(observed *Observed, desired *spec.Stack, services []string, state string, kind Kind) (Plan, error) {
	e, err := newExisting(observed, desired, services)
	if err != nil {
		return Plan{}, err
	}
	for _, c := range e.chosen(services) {
		if c.State == state {
			e.add(0, e.action(kind, c))
		}
	}
	return e.seal()
}
