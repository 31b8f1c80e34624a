package planner

import "github.com/stack-run/stack/spec"

// observedStack is a desired state read off the containers, for commands that were given a stack's name and no file.
func observedStack(observed *Observed) *spec.Stack {
	stack := &spec.Stack{Name: observed.Stack, Services: map[string]*spec.Service{}}
	newest := map[string]*Container{}
	count := map[string]int{}
	for i := range observed.Containers {
		c := &observed.Containers[i]
		if c.OneOff {
			continue
		}
		count[c.Service]++
		if n := newest[c.Service]; n == nil || c.Created.After(n.Created) {
			newest[c.Service] = c
		}
	}
	for name, c := range newest {
		s := c.Spec
		s.Name, s.Replicas = name, count[name]
		stack.Services[name] = &s
	}
	return stack
}

// existing is one run of a command on containers that exist: Down, Stop, Kill, Remove, Pause.
type existing struct {
	draft
	*graph
	stack      *spec.Stack
	observed   *Observed
	containers map[string][]*Container // by service, without one-off ones
}

// newExisting reads the stack, from the observed containers where there is no desired state. Services that were named
// and aren't there are problems.
func newExisting(observed *Observed, desired *spec.Stack, services []string) (*existing, error) {
	stack := desired
	if stack == nil {
		stack = observedStack(observed)
	}
	g, err := newGraph(stack.Name, stack.Services)
	if err != nil {
		return nil, err
	}
	e := &existing{
		draft: draft{plan: Plan{Stack: stack.Name}}, graph: g, stack: stack, observed: observed,
		containers: map[string][]*Container{},
	}
	for i := range observed.Containers {
		if c := &observed.Containers[i]; !c.OneOff {
			e.containers[c.Service] = append(e.containers[c.Service], c)
		}
	}
	for _, name := range services {
		if stack.Services[name] == nil {
			e.problem(unknownService(name, desired))
		}
	}
	return e, e.problems.err()
}

// chosen are the containers of the named services, or of all, in dependency order.
func (e *existing) chosen(services []string) []*Container {
	named := reach(services, func(string) []string { return nil })
	var all []*Container
	for _, name := range e.graph.order {
		if len(services) == 0 || named[name] {
			all = append(all, e.containers[name]...)
		}
	}
	return all
}

// action is a request of the user on one container.
func (e *existing) action(kind Kind, c *Container) Action {
	return Action{
		Kind: kind, Address: containerAddress(c), Name: c.Name, Reason: Requested,
		Service: c.Service, Replica: c.Replica, ContainerID: c.ID,
	}
}

// dependentsFirst orders the actions, given by service, against the dependencies: those on a service come after those
// on its dependents, also where a service between them has none.
func (e *existing) dependentsFirst(actions map[string][]int) {
	above := map[string][]int{} // the nearest actions on a service or, where it has none, on its dependents
	for i := len(e.graph.order) - 1; i >= 0; i-- {
		name := e.graph.order[i]
		var over []int
		for _, dependent := range e.dependents[name] {
			over = append(over, above[dependent]...)
		}
		for _, id := range actions[name] {
			e.after(id, over...)
		}
		above[name] = over
		if len(actions[name]) > 0 {
			above[name] = actions[name]
		}
	}
}

// rank puts the actions on dependents first.
func (e *existing) rank(service string) int {
	for i, name := range e.graph.order {
		if name == service {
			return len(e.graph.order) - i
		}
	}
	return 0
}
