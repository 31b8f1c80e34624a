package planner

import (
	"cmp"
	"slices"

	"github.com/stack-run/stack/spec"
)

// A container that is replaced start-first gets a successor beside it: of the same replica, under a name of its own until
// the old one is gone. What a crash leaves half-way is told by Container.Succeeds, and a new plan goes on from there.

// successors are the containers made to take another one's place, by the other one's id, and the containers that are none.
// One whose predecessor is gone has only its name to get.
func successors(containers []*Container) (next map[string]*Container, rest []*Container) {
	present := map[string]bool{}
	for _, c := range containers {
		present[c.ID] = true
	}
	next = map[string]*Container{}
	for _, c := range containers {
		if c.Succeeds != "" && present[c.Succeeds] && next[c.Succeeds] == nil {
			next[c.Succeeds] = c
		} else {
			rest = append(rest, c)
		}
	}
	return next, rest
}

// pair joins the fates of a container and of its successor. It returns what becomes of the two: one replacement to go on
// with, or a fate for each.
func (u *up) pair(s *course, f *fate, next *Container) (*fate, *fate) {
	n := u.judge(s, next)
	switch {
	case u.paused(s), s.bystander && f.what != replace && n.what != replace:
		return f, n // nobody asked to go on
	case n.what == replace, u.homeless(next):
		// It was made for what is not wanted any more.
		unfit := newFate(discard, next, next.Replica, n.reason)
		unfit.detail, unfit.changes = n.detail, n.changes
		f.unfit = unfit
		return f, unfit
	case f.what == replace && (n.what == restart || !n.start && next.State != Running):
		n = newFate(discard, next, next.Replica, f.reason) // it can't serve before the old one stops
		n.detail, f.unfit = f.detail, n
		return f, n
	case n.what == restart, !n.start && next.State != Running:
		return f, n // stopped or paused by a user
	}
	if f.what != replace {
		f = newFate(replace, f.old, f.replica, Replaced)
	}
	f.next, f.start, f.update = next, n.start, n.update
	return f, nil
}

// dropSuccessors gives up what was begun start-first and can't go on so.
func (u *up) dropSuccessors(s *course) {
	for _, f := range slices.Clone(s.fates) {
		if f.next == nil {
			continue
		}
		f.unfit = newFate(discard, f.next, f.replica, f.reason)
		f.unfit.detail = f.detail
		f.start = !u.opts.NoStart && hasProcess(f.old) || f.start || f.next.State == Running
		f.next, f.update = nil, nil
		s.fates = append(s.fates, f.unfit)
		u.going[f.unfit.old.ID] = f.unfit
	}
	slices.SortStableFunc(s.fates, func(a, b *fate) int { return cmp.Compare(a.replica, b.replica) })
}

// succeeds tells whether the fate is that of a container with a successor beside it.
func (f *fate) succeeds() bool {
	return f.serveID != none && f.renameID != none && f.old != nil && f.what == replace
}

// startsFirst tells whether a container is replaced by one that serves before it stops.
func (s *course) startsFirst(f *fate) bool {
	return f.next != nil || f.start && hasProcess(f.old) && s.rollout != nil && s.rollout.Order == spec.StartFirst
}

// draftSuccession replaces a container start-first: the successor serves before the old one is drained, stopped and
// removed, and gets its name in the end.
func (u *up) draftSuccession(s *course, f *fate, action Action) {
	old := action
	name := s.ContainerNameOf(u.desired.Name, f.replica)
	if f.next == nil {
		action.Kind, action.ContainerID, action.Succeeds = CreateContainer, "", f.old.ID
		action.Name = spec.SuccessorName(name, f.old.ID)
		if !u.opts.RenewAnonVolumes {
			action.Replaces = f.old.ID
		}
		f.createID = u.add(s.rank, action)
		action.Replaces, action.Succeeds = "", ""
	} else {
		action.Name, action.ContainerID = f.next.Name, f.next.ID
		u.draftUpdate(s, f, action)
	}
	action.Changes = nil
	u.draftStart(s, f, action)
	if f.next != nil {
		u.draftPending(s, f, f.next, action)
	}
	u.draftServe(s, f, action)

	old.Changes = nil
	if hasProcess(f.old) {
		u.draftDrain(s, f, old)
		u.after(f.drainID, f.serveID)
		u.draftStop(s, f, old)
	}
	old.Kind, old.Volumes = RemoveContainer, u.opts.RenewAnonVolumes
	f.removeID = u.add(s.rank, old)
	if f.stopID != none {
		u.after(f.removeID, f.stopID)
	} else {
		u.after(f.removeID, f.serveID)
	}
	u.draftRename(s, f, action, name)
	u.after(f.renameID, f.removeID)
}

// draftRename gives a successor the name of the container that it took the place of.
func (u *up) draftRename(s *course, f *fate, action Action, name string) {
	action.Kind, action.To = RenameContainer, name
	f.renameID = u.add(s.rank, action)
}

// draftServe waits for a new container to be ready and lets it serve.
func (u *up) draftServe(s *course, f *fate, action Action) {
	action.Kind, action.Condition = ServeContainer, ""
	if f.old != nil && !hasProcess(f.old) {
		action.Condition = RunningOrHealthy // the one before had ended, and so this one may
	}
	f.serveID = u.add(s.rank, action)
	if started := f.started(); started != none {
		u.after(f.serveID, started)
	} else {
		u.after(f.serveID, f.createID, f.updateID)
	}
}

// draftDrain takes a container out of the choice and waits for its connections to end.
func (u *up) draftDrain(s *course, f *fate, action Action) {
	action.Kind, action.Timeout, action.Changes = DrainContainer, u.opts.Timeout, nil
	f.drainID = u.add(s.rank, action)
}

// draftLoneSuccessor finishes a replacement whose old container is gone.
func (u *up) draftLoneSuccessor(s *course, f *fate, action Action) {
	if action.Reason == "" {
		action.Reason = Replaced
	}
	if f.startID != none || f.old.State == Running {
		u.draftServe(s, f, action)
	}
	u.draftRename(s, f, action, s.ContainerNameOf(u.desired.Name, f.replica))
	u.after(f.renameID, f.serveID)
}

// unfitRemoval is the removal of a successor that was made for something else: its name is free then.
func (f *fate) unfitRemoval() int {
	if f.unfit == nil {
		return none
	}
	return f.unfit.removeID
}

// paused tells whether the service's rollout stopped because of failures, and it is not a user who plans.
func (u *up) paused(s *course) bool { return u.opts.KeepStopped && u.observed.Paused[s.Name] != "" }
