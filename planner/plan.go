package planner

import (
	"fmt"
	"slices"
)

// Check tells whether the plan is well-formed: ids are indexes, and each action comes after actions with smaller ids
// only, so that there is no cycle. Every plan that this package returns passes; one that was stored may not.
func (p Plan) Check() error {
	for i, a := range p.Actions {
		if a.ID != i {
			return fmt.Errorf("action %d of the plan for %s has the id %d", i, p.Stack, a.ID)
		}
		for _, before := range a.After {
			if before < 0 || before >= i {
				return fmt.Errorf("action %d (%s %s) of the plan for %s comes after action %d", i, a.Kind, a.Address, p.Stack, before)
			}
		}
	}
	return nil
}

// Ready lists the actions that are not done and come after nothing that isn't done.
func (p Plan) Ready(done map[int]bool) []int {
	var ready []int
	for _, a := range p.Actions {
		if !done[a.ID] && !slices.ContainsFunc(a.After, func(id int) bool { return !done[id] }) {
			ready = append(ready, a.ID)
		}
	}
	return ready
}

// Dependents lists for each action the actions that come after it: After, the other way round.
func (p Plan) Dependents() [][]int {
	dependents := make([][]int, len(p.Actions))
	for _, a := range p.Actions {
		for _, before := range a.After {
			dependents[before] = append(dependents[before], a.ID)
		}
	}
	return dependents
}

// Pulls are the plan's image pulls. Where one replaces an image that is in use, only a plan made after it knows what
// must be recreated: execute the pulls, observe, and plan again with Options.Pulled.
func (p Plan) Pulls() []Action {
	var pulls []Action
	for _, a := range p.Actions {
		if a.Kind == PullImage {
			pulls = append(pulls, a)
		}
	}
	return pulls
}
