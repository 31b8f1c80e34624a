package planner

import (
	"fmt"

	"github.com/stack-run/stack/spec"
)

// checkServices finds what makes services impossible as the file has them: those asked for, and those of which
// containers are made again all the same.
func (u *up) checkServices() {
	for _, name := range u.graph.order {
		if s := u.services[name]; !s.bystander || s.makesContainers() {
			u.checkService(s)
			u.checkNeeds(s)
			u.checkReferences(s)
		}
	}
	u.checkCircles()
}

// checkService finds what makes a service impossible by itself.
func (u *up) checkService(s *course) {
	if s.replicas > 1 && s.ContainerName != "" {
		u.problem(Problem{
			Kind: ErrScale, Address: spec.ServiceAddress(s.Name).String(), Position: s.Position,
			Summary: fmt.Sprintf("%d replicas can't all have the container_name %s", s.replicas, s.ContainerName),
			Remedy:  "remove container_name to scale the service",
		})
	}
	for _, l := range u.absent[s.Name] {
		if !l.Required {
			continue
		}
		p := unknownService(l.service, u.desired)
		p.Address, p.Position = spec.ServiceAddress(s.Name).String(), s.Position
		p.Summary = fmt.Sprintf("depends on %s: %s", l.service, p.Summary)
		u.problem(p)
	}
}

// checkNeeds finds what a service needs of others and can't get.
func (u *up) checkNeeds(s *course) {
	if s.replicas == 0 && !s.oneOff {
		return
	}
	address := spec.ServiceAddress(s.Name).String()
	for _, l := range s.links {
		provider := u.services[l.service]
		if l.binds() && provider.replicas == 0 {
			u.problem(Problem{
				Kind: ErrScale, Address: address, Position: s.Position,
				Summary: fmt.Sprintf("shares a namespace or volumes with %s, which has no container", l.service),
				Remedy:  fmt.Sprintf("give %s at least one replica", l.service),
			})
		}
		if l.Condition == spec.Healthy && l.Required && neverHealthy(provider.Healthcheck) {
			u.problem(Problem{
				Kind: ErrCondition, Address: address, Position: s.Position,
				Summary: fmt.Sprintf("waits for %s to be healthy, but its healthcheck is disabled", l.service),
				Remedy:  fmt.Sprintf("give %s a healthcheck, or wait for service_started", l.service),
			})
		}
	}
	for _, name := range namespaceContainers(s.Service) {
		if _, running := u.observed.Foreign[name]; running || u.ownContainer(name) {
			continue
		}
		u.problem(Problem{
			Kind: ErrNotFound, Address: address, Position: s.Position,
			Summary: fmt.Sprintf("joins a namespace of the container %s, which isn't running", name),
			Remedy:  "start that container first",
		})
	}
}

func neverHealthy(h *spec.Healthcheck) bool {
	return h != nil && (h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE")
}

// ownContainer tells whether the name is one of this stack's containers, there or to be made.
func (u *up) ownContainer(name string) bool {
	if _, ok := u.owners[name]; ok {
		return true
	}
	for i := range u.observed.Containers {
		if u.observed.Containers[i].Name == name {
			return true
		}
	}
	return false
}

// checkNames finds container names that are taken by what the plan leaves alone.
func (u *up) checkNames() {
	holders := map[string]string{} // names that stay taken, to who has them
	given := map[string]string{}   // names, to the services whose new containers get them
	gone := map[string]bool{}
	for _, a := range u.plan.Actions {
		if a.Kind == RemoveContainer {
			gone[a.ContainerID] = true
		}
	}
	for i := range u.observed.Containers {
		if c := &u.observed.Containers[i]; !gone[c.ID] {
			holders[c.Name] = "another container of this stack (" + containerAddress(c) + ")"
		}
	}
	for _, a := range u.plan.Actions {
		name := a.Name
		switch a.Kind {
		case CreateContainer:
		case RenameContainer:
			name = a.To
		default:
			continue
		}
		if given[name] == a.Service {
			continue // more replicas than a container_name allows: found already
		}
		holder, taken := holders[name]
		remedy := "remove or rename one of them"
		if other, ok := u.observed.TakenNames[name]; ok {
			holder, taken = other, true
			remedy = "give the service another container_name, or remove that container"
		}
		if taken {
			u.problem(Problem{
				Kind: ErrNameTaken, Address: a.Address, Position: u.services[a.Service].Position,
				Summary: fmt.Sprintf("the container name %s is taken by %s", name, holder), Remedy: remedy,
			})
		}
		holders[name], given[name] = a.Address, a.Service
	}
}
