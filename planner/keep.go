package planner

import "github.com/stack-run/stack/spec"

// Scope are the services that an up with these options is about: the named ones with what they depend on, or all. The
// daemon's loop keeps what operations were about, and leaves the rest alone.
func Scope(desired *spec.Stack, opts Options) (map[string]bool, error) {
	g, err := newGraph(desired.Name, desired.Services)
	if err != nil {
		return nil, err
	}
	u := &up{graph: g, desired: desired, opts: opts}
	chosen := u.chosen()
	delete(chosen, opts.OneOff)
	return chosen, nil
}

// Without is the plan without some of its actions and all that comes after them.
func (p Plan) Without(drop func(Action) bool) Plan {
	out := Plan{Stack: p.Stack, Rollouts: p.Rollouts, Notes: p.Notes}
	kept := map[int]int{} // old id to new
	for _, a := range p.Actions {
		gone := drop(a)
		after := make([]int, 0, len(a.After))
		for _, id := range a.After { // smaller ids: what they came to is known
			now, ok := kept[id]
			gone = gone || !ok
			after = append(after, now)
		}
		if gone {
			continue
		}
		kept[a.ID] = len(out.Actions)
		a.ID, a.After = len(out.Actions), after
		out.Actions = append(out.Actions, a)
	}
	return out
}
