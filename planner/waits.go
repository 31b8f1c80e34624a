package planner

import (
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// waitKey tells waits apart: dependents that wait for the same share one, but what is optional for one dependent and
// required by another fails for one only.
type waitKey struct {
	service   string
	condition string
	optional  bool
}

// startNeeds are the actions that a start of the service comes after: starts of what it depends on, and waits.
func (u *up) startNeeds(s *course) []int {
	var needs []int
	for _, l := range s.links {
		provider := u.services[l.service]
		if provider.replicas == 0 || provider.bystander && !provider.starts() || u.parked(provider) || u.resting(s, provider, l.Condition) {
			continue
		}
		starts := provider.startIDs()
		switch {
		case l.Condition == spec.Started && l.Required, u.halfUp(provider):
			needs = append(needs, starts...)
		case l.Condition == spec.Started && len(starts) == 0:
		case u.holds(provider, l.Condition):
		default:
			needs = append(needs, u.wait(provider, l.Condition, !l.Required))
		}
	}
	return append(needs, u.referenceNeeds(s)...)
}

// halfUp tells whether part of the service is left as it is, in a state that may never meet a condition: down, of a
// service that wasn't asked for, or paused by a user.
func (u *up) halfUp(s *course) bool {
	return slices.ContainsFunc(s.fates, func(f *fate) bool {
		if f.startID != none || f.what == discard {
			return false
		}
		down := f.what != keep || !hasProcess(f.old)
		return s.bystander && down || !down && f.old.State == Paused
	})
}

// wait is the action that waits for the condition, after the starts of the service it is about.
func (u *up) wait(provider *course, condition string, optional bool) int {
	key := waitKey{provider.Name, condition, optional}
	if id, ok := u.waits[key]; ok {
		return id
	}
	id := u.add(provider.rank+rankOfWait, Action{
		Kind: Wait, Address: spec.ServiceAddress(provider.Name).String(), Reason: Dependency,
		Service: provider.Name, Condition: condition, Optional: optional,
	})
	u.after(id, provider.startIDs()...)
	for _, f := range provider.fates {
		u.after(id, f.updateID) // by its new health check, if that is what changes
		if f.what == discard || f.succeeds() {
			u.after(id, f.removeID) // what goes isn't waited for
		}
	}
	u.waits[key] = id
	return id
}

// holds tells whether the condition holds already and the plan does nothing that could change that.
func (u *up) holds(s *course, condition string) bool {
	for _, f := range s.fates {
		if f.what == discard {
			continue
		}
		if f.what != keep || f.started() != none || f.checkedAnew() || !satisfies(f.old, condition) {
			return false
		}
	}
	return true
}

// checkedAnew tells whether the plan changes by what the container counts as healthy.
func (f *fate) checkedAnew() bool {
	return slices.ContainsFunc(f.update, func(c spec.Change) bool {
		return c.Path == "healthcheck" || strings.HasPrefix(c.Path, "healthcheck.")
	})
}

// satisfies tells whether a container, as it is, meets the condition.
func satisfies(c *Container, condition string) bool {
	switch condition {
	case spec.Healthy:
		return c.State == Running && c.Health == Healthy
	case spec.CompletedSuccessfully:
		return c.State == Exited && c.ExitCode == 0
	case RunningOrHealthy:
		return c.State == Running && (c.Health == Healthy || c.Health == NoHealth)
	}
	return c.State == Running
}

// parked tells whether a user stopped all of the service and the plan leaves it so: nothing can come of waiting for it.
func (u *up) parked(s *course) bool {
	if !u.opts.KeepStopped || len(s.fates) == 0 {
		return false
	}
	for _, f := range s.fates {
		if f.what != keep || f.startID != none || !f.old.Stopped || hasProcess(f.old) {
			return false
		}
	}
	return true
}

// resting tells whether the provider ran and its restart policy leaves it down, while the containers of s that start have run
// before: as after a reboot with Docker, they don't wait for what won't come. Those that never ran do.
func (u *up) resting(s, provider *course, condition string) bool {
	if !u.opts.KeepStopped || condition == spec.CompletedSuccessfully || len(provider.fates) == 0 {
		return false
	}
	for _, f := range provider.fates {
		if f.what != keep || f.startID != none || f.old.State != Exited {
			return false
		}
	}
	return !slices.ContainsFunc(s.fates, func(f *fate) bool { return f.startID != none && (f.old == nil || f.old.State == Created) })
}

func (s *course) startIDs() []int {
	var ids []int
	for _, f := range s.fates {
		if id := f.started(); id != none {
			ids = append(ids, id)
		}
	}
	return ids
}

// waitForAll adds what `--wait` asks for: that in the end all chosen services run and are healthy, or have completed
// where that is what others wait for.
func (u *up) waitForAll() {
	if !u.opts.WaitHealthy || u.opts.NoStart {
		return
	}
	for _, name := range u.graph.order {
		s := u.services[name]
		condition := RunningOrHealthy
		if u.oneShot[name] {
			condition = spec.CompletedSuccessfully
		}
		_, planned := u.waits[waitKey{service: name, condition: spec.Healthy}]
		if s.bystander || s.replicas == 0 || planned || u.holds(s, condition) {
			continue
		}
		id := u.wait(s, condition, false)
		if a := &u.plan.Actions[id]; condition == RunningOrHealthy {
			a.Reason = Requested
		}
	}
}
