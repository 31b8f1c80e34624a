package planner

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
)

// none stands for the id of an action that a plan doesn't have.
const none = -1

// draft is a plan in the making. Actions are added in any order under provisional ids, then linked, then sealed.
type draft struct {
	plan     Plan
	ranks    []int // of each action: where no order is needed, lower ranks come first in the sealed plan
	problems Problems
}

// add appends an action and returns its provisional id.
func (d *draft) add(rank int, a Action) int {
	a.ID = len(d.plan.Actions)
	d.plan.Actions = append(d.plan.Actions, a)
	d.ranks = append(d.ranks, rank)
	return a.ID
}

// after makes the action come after the others; `none` on either side is passed over.
func (d *draft) after(id int, others ...int) {
	if id == none {
		return
	}
	for _, before := range others {
		if before != none && before != id {
			d.plan.Actions[id].After = append(d.plan.Actions[id].After, before)
		}
	}
}

// starved are the actions that come after nothing and are not of the given kinds.
func (d *draft) starved(except ...Kind) []int {
	var ids []int
	for _, a := range d.plan.Actions {
		if !slices.Contains(except, a.Kind) && len(a.After) == 0 {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

func (d *draft) note(address, text, remedy string) {
	d.plan.Notes = append(d.plan.Notes, Note{Address: address, Text: text, Remedy: remedy})
}

func (d *draft) problem(p Problem) {
	d.problems = append(d.problems, p)
}

// seal numbers the actions so that each comes after smaller ids only, and returns the plan, or the problems found.
func (d *draft) seal() (Plan, error) {
	if err := d.problems.err(); err != nil {
		return Plan{}, err
	}
	slices.SortStableFunc(d.plan.Notes, func(a, b Note) int { return cmp.Compare(a.Address, b.Address) })
	order := d.topological()
	if len(order) != len(d.plan.Actions) {
		// Not a user's mistake: cycles in depends_on are found before any action is drafted.
		return Plan{}, fmt.Errorf("planner: the actions for stack %s wait for each other: please report this", d.plan.Stack)
	}
	final := make([]int, len(order))
	for i, id := range order {
		final[id] = i
	}
	sealed := d.plan
	sealed.Actions = make([]Action, len(order))
	for i, id := range order {
		a := d.plan.Actions[id]
		a.ID = i
		for j, before := range a.After {
			a.After[j] = final[before]
		}
		slices.Sort(a.After)
		a.After = slices.Compact(a.After)
		sealed.Actions[i] = a
	}
	return sealed, nil
}

// topological lists the provisional ids so that each comes after those it waits for, lower ranks first where there is
// a choice. Actions on a cycle are left out.
func (d *draft) topological() []int {
	blockers := make([]int, len(d.plan.Actions))
	for _, a := range d.plan.Actions {
		blockers[a.ID] = len(a.After)
	}
	dependents := d.plan.Dependents()
	ready := &byRank{ranks: d.ranks}
	for id, n := range blockers {
		if n == 0 {
			ready.ids = append(ready.ids, id)
		}
	}
	heap.Init(ready)
	var order []int
	for ready.Len() > 0 {
		id := heap.Pop(ready).(int)
		order = append(order, id)
		for _, next := range dependents[id] {
			if blockers[next]--; blockers[next] == 0 {
				heap.Push(ready, next)
			}
		}
	}
	return order
}

// byRank is a heap of provisional ids.
type byRank struct {
	ids   []int
	ranks []int
}

func (h *byRank) Len() int { return len(h.ids) }
func (h *byRank) Less(i, j int) bool {
	a, b := h.ids[i], h.ids[j]
	return cmp.Or(cmp.Compare(h.ranks[a], h.ranks[b]), cmp.Compare(a, b)) < 0
}
func (h *byRank) Swap(i, j int) { h.ids[i], h.ids[j] = h.ids[j], h.ids[i] }
func (h *byRank) Push(id any)   { h.ids = append(h.ids, id.(int)) }
func (h *byRank) Pop() any {
	last := h.ids[len(h.ids)-1]
	h.ids = h.ids[:len(h.ids)-1]
	return last
}
