package planner

import (
	"time"

	"github.com/stack-run/stack/spec"
)

// RemoveOptions of an rm.
type RemoveOptions struct {
	Services []string // named by the user; empty is all
	Stop     bool     // stop them first; otherwise what runs is left alone
	Volumes  bool     // with their anonymous volumes
	Timeout  *time.Duration
}

// Remove plans `rm`: of containers that don't run or, with Stop, of all. desired may be nil.
func Remove(observed *Observed, desired *spec.Stack, opts RemoveOptions) (Plan, error) {
	e, err := newExisting(observed, desired, opts.Services)
	if err != nil {
		return Plan{}, err
	}
	stops := map[string][]int{}
	for _, c := range e.chosen(opts.Services) {
		if hasProcess(c) && !opts.Stop {
			continue
		}
		stop, remove := e.draftDiscard(e.rank(c.Service), c, Requested, "", opts.Timeout)
		e.plan.Actions[remove].Volumes = opts.Volumes
		if stop != none {
			stops[c.Service] = append(stops[c.Service], stop)
		}
	}
	e.dependentsFirst(stops)
	if len(e.plan.Actions) == 0 {
		e.note("", "no stopped containers", "")
	}
	return e.seal()
}
