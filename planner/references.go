package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// Other is another stack of this host, as far as services of the planned one refer to it.
type Other struct {
	Desired *spec.Stack // nil: there is no such stack
	// Containers of the services that are referred to.
	Containers []Container
}

// reference is an entry of x-stack's depends_on.
type reference struct {
	stack, service string
	spec.Dependency
}

// ReferenceAddress is the address of a service of another stack: stack.data/service.db.
func ReferenceAddress(stack, service string) string {
	return "stack." + stack + "/" + spec.ServiceAddress(service).String()
}

// references of a service to services of other stacks, sorted.
func references(s *spec.Service) []reference {
	if s.Policy == nil {
		return nil
	}
	var all []reference
	for _, name := range slices.Sorted(maps.Keys(s.Policy.DependsOn)) {
		stack, service, _ := strings.Cut(name, "/")
		all = append(all, reference{stack, service, s.Policy.DependsOn[name]})
	}
	return all
}

// referred is the service that a reference means; nil with the words for what is missing.
func (u *up) referred(r reference) (*spec.Service, string) {
	other := u.observed.Others[r.stack]
	switch {
	case other == nil || other.Desired == nil:
		return nil, fmt.Sprintf("there is no stack %s on this host", r.stack)
	case other.Desired.Services[r.service] == nil:
		return nil, fmt.Sprintf("the stack %s has no service %s", r.stack, r.service)
	}
	return other.Desired.Services[r.service], ""
}

// passesOver tells whether who asks wants no dependencies. The loop names all that it keeps, and keeps their order.
func (u *up) passesOver() bool { return u.opts.NoDeps && !u.opts.KeepStopped }

// checkReferences finds references to what isn't there, of services that are to start. An optional one is noted; so is any for
// the loop, since a stack that was taken down is no reason to let another one lie.
func (u *up) checkReferences(s *course) {
	if u.passesOver() || !s.oneOff && !slices.ContainsFunc(s.fates, func(f *fate) bool { return f.start }) {
		return
	}
	for _, r := range references(s.Service) {
		_, missing := u.referred(r)
		switch {
		case missing == "":
		case !r.Required || u.opts.KeepStopped:
			u.note(spec.ServiceAddress(s.Name).String(), fmt.Sprintf("doesn't wait for %s/%s: %s", r.stack, r.service, missing), "")
		default:
			u.problem(Problem{
				Kind: ErrNotFound, Address: spec.ServiceAddress(s.Name).String(), Position: s.Position,
				Summary: fmt.Sprintf("depends on %s/%s: %s", r.stack, r.service, missing),
				Remedy:  fmt.Sprintf("bring the stack %s up first, or write `required: false`", r.stack),
			})
		}
	}
}

// referenceNeeds are waits for services of other stacks that don't meet their conditions yet. Nothing is done to those.
func (u *up) referenceNeeds(s *course) []int {
	if u.passesOver() {
		return nil
	}
	var needs []int
	for _, r := range references(s.Service) {
		if service, _ := u.referred(r); service == nil || u.met(r) {
			continue
		}
		key := waitKey{r.stack + "/" + r.service, r.Condition, !r.Required}
		id, ok := u.waits[key]
		if !ok {
			id = u.add(rankInfra, Action{
				Kind: Wait, Address: ReferenceAddress(r.stack, r.service), Reason: Dependency,
				Stack: r.stack, Service: r.service, Condition: r.Condition, Optional: !r.Required,
			})
			u.waits[key] = id
		}
		needs = append(needs, id)
	}
	return needs
}

// met tells whether the condition holds, or can't come true because a user stopped the service, which the loop respects.
func (u *up) met(r reference) bool {
	found := false
	for i := range u.observed.Others[r.stack].Containers {
		c := &u.observed.Others[r.stack].Containers[i]
		if c.Service != r.service || c.OneOff {
			continue
		}
		if !satisfies(c, r.Condition) && !(c.Stopped && !hasProcess(c) && r.Condition != spec.CompletedSuccessfully && u.opts.KeepStopped) {
			return false
		}
		found = true
	}
	return found
}

// checkCircles finds services that wait for themselves by way of other stacks.
func (u *up) checkCircles() {
	w := &wayfinder{u: u, done: map[string]bool{}}
	for _, name := range u.graph.order {
		if len(references(u.services[name].Service)) > 0 {
			w.descend(u.desired.Name, name)
		}
	}
	if w.circle == nil {
		return
	}
	first := u.services[strings.TrimPrefix(w.circle[0], u.desired.Name+"/")]
	p := Problem{
		Kind: ErrCycle, Summary: "dependency cycle between stacks: " + strings.Join(w.circle, " -> "),
		Remedy: "remove one of these dependencies",
	}
	if first != nil {
		p.Address, p.Position = spec.ServiceAddress(first.Name).String(), first.Position
	}
	u.problem(p)
}

// wayfinder follows dependencies within and between stacks, depth first, to the first circle.
type wayfinder struct {
	u      *up
	done   map[string]bool
	path   []string
	circle []string
}

func (w *wayfinder) descend(stack, service string) {
	name := stack + "/" + service
	if w.circle != nil || w.done[name] {
		return
	}
	if i := slices.Index(w.path, name); i >= 0 {
		w.circle = append(slices.Clone(w.path[i:]), name)
		return
	}
	desired := w.u.desired
	if stack != desired.Name {
		other := w.u.observed.Others[stack]
		if other == nil || other.Desired == nil {
			return
		}
		desired = other.Desired
	}
	s := desired.Services[service]
	if s == nil {
		return
	}
	w.path = append(w.path, name)
	for _, dep := range slices.Sorted(maps.Keys(s.ServiceDependencies())) {
		w.descend(stack, dep)
	}
	for _, r := range references(s) {
		w.descend(r.stack, r.service)
	}
	w.path = w.path[:len(w.path)-1]
	w.done[name] = true
}
