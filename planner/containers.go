package planner

import (
	"cmp"
	"strings"
	"time"

	"github.com/stack-run/stack/spec"
)

func (u *up) draftServices() {
	for _, name := range u.graph.order {
		u.draftContainers(u.services[name])
	}
}

func (u *up) linkServices() {
	for _, name := range u.graph.order {
		u.linkContainers(u.services[name])
		u.linkBatches(u.services[name])
	}
}

// draftContainers turns the fates of a service into actions, each replica's in a chain. What they wait for beyond that
// is linked when the actions of all services are there.
func (u *up) draftContainers(s *course) {
	for _, f := range s.fates {
		action := Action{
			Address: spec.ReplicaAddress(s.Name, f.replica).String(), Service: s.Name, Replica: f.replica,
			Name: s.ContainerNameOf(u.desired.Name, f.replica), Reason: f.reason, Detail: f.detail,
		}
		if f.old != nil {
			action.Name, action.ContainerID = f.old.Name, f.old.ID
		}
		switch f.what {
		case keep:
			u.draftKept(s, f, action)
		case restart:
			u.draftStop(s, f, action)
			u.draftUpdate(s, f, action)
			u.draftStart(s, f, action)
		case discard:
			u.draftStop(s, f, action)
			action.Kind = RemoveContainer
			f.removeID = u.add(s.rank, action)
			u.after(f.removeID, f.stopID)
		case replace:
			u.draftReplace(s, f, action)
		case create:
			action.Kind = CreateContainer
			f.createID = u.add(s.rank, action)
			u.draftStart(s, f, action)
		}
	}
}

func (u *up) draftKept(s *course, f *fate, action Action) {
	u.draftUpdate(s, f, action)
	if len(f.repair) > 0 {
		repair := action
		repair.Kind, repair.Reason, repair.Detail = RepairContainer, Drifted, strings.Join(f.repair, ", ")
		f.repairID = u.add(s.rank, repair)
	}
	if f.unpause {
		unpause := action
		unpause.Kind, unpause.Reason, unpause.Detail = UnpauseContainer, NotRunning, "paused"
		f.startID = u.add(s.rank, unpause)
	} else {
		u.draftStart(s, f, action)
		u.draftPending(s, f, f.old, action)
	}
	switch {
	case f.rename:
		u.draftLoneSuccessor(s, f, action)
	case f.old.Drained && hasProcess(f.old), s.rollout != nil && f.unproven():
		// It is needed again, or has to be good before others are replaced by its like.
		action.Reason = cmp.Or(action.Reason, RollingOut)
		u.draftServe(s, f, action)
	}
}

func (u *up) draftReplace(s *course, f *fate, action Action) {
	action.Changes = f.changes
	if s.startsFirst(f) {
		u.draftSuccession(s, f, action)
		return
	}
	u.draftStop(s, f, action)
	remove := action
	remove.Kind, remove.Volumes = RemoveContainer, u.opts.RenewAnonVolumes
	f.removeID = u.add(s.rank, remove)
	u.after(f.removeID, f.stopID)

	action.Kind, action.ContainerID = CreateContainer, ""
	action.Name = s.ContainerNameOf(u.desired.Name, f.replica)
	if !u.opts.RenewAnonVolumes {
		action.Replaces = f.old.ID
	}
	f.createID = u.add(s.rank, action)
	u.after(f.createID, f.removeID)
	action.Replaces = ""
	u.draftStart(s, f, action)
	if s.rollout != nil && f.startID != none {
		action.Changes = nil
		u.draftServe(s, f, action)
	}
}

func (u *up) draftStop(s *course, f *fate, action Action) {
	if !f.stops() {
		return
	}
	if f.drainID == none && s.balanced() && f.old.Succeeds == "" {
		// While others serve, new connections go to them; else they wait for the container that comes next.
		if s.serving(f) {
			u.draftDrain(s, f, action)
		} else {
			// What early on is another's is not held: that one serves it.
			action.Hold = f.start && f.what != discard && !f.early
		}
	}
	action.Kind, action.Timeout = StopContainer, u.opts.Timeout
	f.stopID = u.add(s.rank, action)
	u.after(f.stopID, f.drainID)
}

func (u *up) draftStart(s *course, f *fate, action Action) {
	if !f.start {
		return
	}
	action.Kind, action.Changes = StartContainer, nil
	f.startID = u.add(s.rank, action)
	if f.createID != none {
		u.after(f.startID, f.createID)
	} else {
		u.after(f.startID, f.stopID, f.updateID)
	}
	u.draftPreStart(s, f, action)
	u.draftPostStart(s, f, action)
}

func (u *up) draftUpdate(s *course, f *fate, action Action) {
	if len(f.update) == 0 && !f.unfinished {
		return
	}
	action.Kind, action.Reason, action.Detail, action.Changes = UpdateContainer, SpecChanged, summary(f.update), f.update
	if len(f.update) == 0 {
		action.Reason = Unfinished
	}
	f.updateID = u.add(s.rank, action)
	u.after(f.updateID, f.stopID)
}

// linkContainers orders the actions of a service after what they need of others.
func (u *up) linkContainers(s *course) {
	var needs []int // of the starts, found out only where something starts
	if s.starts() || s.oneOff {
		needs = u.startNeeds(s)
	}
	var infra []int
	for _, key := range usedNetworks(s.Service) {
		if n := u.networks[key]; n != nil {
			infra = append(infra, n.readyID)
		}
	}
	for _, key := range namedVolumes(s.Service) {
		if id, ok := u.volumes[key]; ok {
			infra = append(infra, id)
		}
	}
	tied := false
	for _, l := range s.links {
		provider := u.services[l.service]
		if u.tied(l) {
			tied = true
			u.stopBefore(s, provider)
		}
		if l.follows() && provider.rolling() && provider.recreated {
			for _, p := range provider.fates {
				needs = append(needs, p.last()) // what restarts with it does so when the old one is gone
			}
		}
		if l.binds() {
			for _, p := range provider.fates {
				for _, f := range s.fates {
					u.after(f.createID, p.createID)
					if p.what == discard {
						u.after(f.createID, p.removeID) // so that nobody joins a namespace that goes
					}
				}
			}
		}
	}
	for _, f := range s.fates {
		f.early = f.early || tied
		if f.what == replace || f.what == discard {
			for _, id := range f.old.NamespaceOf {
				if owner := u.going[id]; owner != nil {
					f.early = true
					u.after(owner.stopID, f.stopID)
				}
			}
		}
		u.after(f.createID, f.unfitRemoval())
		if first := f.ends(); (f.what == replace || f.what == restart) && !f.early {
			// What is needed to run again comes first, so that the container serves until all is ready.
			u.after(first, infra...)
			u.after(first, needs...)
		}
		u.after(f.updateID, infra...)
		if f.createID != none {
			u.after(f.createID, infra...)
		} else {
			u.after(f.startID, infra...)
		}
		u.after(f.startID, needs...)
		u.after(f.repairID, infra...)
		u.after(f.preStartID, append(needs, infra...)...)
	}
	u.after(s.preStartID, append(needs, infra...)...)
}

// stopBefore lets the provider's containers stop only when those of s, which can't do without, have stopped.
func (u *up) stopBefore(s, provider *course) {
	for _, p := range provider.fates {
		for _, f := range s.fates {
			u.after(p.stopID, f.stopID)
		}
	}
}

// ends is the action that ends the container as it was.
func (f *fate) ends() int {
	if f.drainID != none {
		return f.drainID
	}
	if f.stopID != none {
		return f.stopID
	}
	return f.removeID
}

func (s *course) starts() bool {
	for _, f := range s.fates {
		if f.startID != none {
			return true
		}
	}
	return false
}

// draftDiscard stops a container, if it has a process, and removes it.
func (d *draft) draftDiscard(rank int, c *Container, reason Reason, detail string, timeout *time.Duration) (stop, remove int) {
	action := Action{
		Address: containerAddress(c), Name: c.Name, Reason: reason, Detail: detail,
		Service: c.Service, Replica: c.Replica, ContainerID: c.ID,
	}
	stop = none
	if hasProcess(c) {
		action.Kind, action.Timeout = StopContainer, timeout
		stop = d.add(rank, action)
		action.Timeout = nil
	}
	action.Kind = RemoveContainer
	remove = d.add(rank, action)
	d.after(remove, stop)
	return stop, remove
}
