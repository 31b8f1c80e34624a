package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stack-run/stack/spec"
)

// what a plan does with one container.
type what int

const (
	keep    what = iota // perhaps it is started or unpaused
	create              // there is none yet
	replace             // stop, remove, create, start
	restart             // stop, start
	discard             // stop, remove
)

// fate is what a plan does with one replica, and why.
type fate struct {
	what    what
	old     *Container // nil for create
	replica int
	reason  Reason
	detail  string
	changes []spec.Change

	start   bool // it runs in the end, because of this plan
	unpause bool
	update  []spec.Change // in place
	// unfinished is an update in place that was begun before.
	unfinished bool
	repair     []string   // what others changed around it and is put right in place
	next       *Container // of replace: the successor that is there already
	unfit      *fate      // that of a successor that was made for what is not wanted any more
	rename     bool       // of keep: it has its predecessor's name to get
	// early says that something else waits for this container to stop, so that the stop waits for nothing that the
	// new container needs.
	early bool

	stopID, removeID, createID, startID, updateID, postStartID, repairID int
	drainID, serveID, renameID, preStartID                               int // none where there is no such action
}

func newFate(w what, old *Container, replica int, reason Reason) *fate {
	return &fate{
		what: w, old: old, replica: replica, reason: reason,
		stopID: none, removeID: none, createID: none, startID: none, updateID: none, postStartID: none, repairID: none,
		drainID: none, serveID: none, renameID: none, preStartID: none,
	}
}

// stops tells whether a process that runs now is stopped.
func (f *fate) stops() bool {
	return f.what != keep && f.old != nil && hasProcess(f.old)
}

// hasProcess tells whether a container may have a process, now or by its restart policy, that a stop must end.
func hasProcess(c *Container) bool {
	return c.State == Running || c.State == Paused || c.State == Restarting
}

// decide finds the fates of the service's containers. What it depends on has been decided before.
func (u *up) decide(s *course) {
	next, rest := successors(s.containers)
	if s.bystander && !s.oneOff {
		s.replicas = len(rest)
	}
	var beside []*fate // of successors that are no part of a replacement
	for _, c := range rest {
		f := u.judge(s, c)
		f.rename = c.Succeeds != "" && f.what == keep
		if n := next[c.ID]; n != nil {
			var other *fate
			if f, other = u.pair(s, f, n); other != nil {
				beside = append(beside, other)
			}
		}
		s.fates = append(s.fates, f)
	}
	// Those that can stay come first, by their number: so scaling down takes what must be replaced anyway, then the
	// highest numbers.
	slices.SortStableFunc(s.fates, func(a, b *fate) int {
		return cmp.Or(cmp.Compare(burden(a), burden(b)), cmp.Compare(a.replica, b.replica), a.old.Created.Compare(b.old.Created))
	})
	for i, f := range s.fates {
		if i >= s.replicas && f.what != discard {
			down := newFate(discard, f.old, f.replica, ScaleDown)
			down.detail = fmt.Sprintf("%d of %d replicas wanted", s.replicas, len(rest))
			s.fates[i] = down
			if f.next != nil {
				both := *down
				both.old = f.next
				beside = append(beside, &both)
			}
		}
	}
	u.scaleUp(s, len(rest))
	s.fates = append(s.fates, beside...)
	slices.SortStableFunc(s.fates, func(a, b *fate) int { return cmp.Compare(a.replica, b.replica) })
	for _, f := range s.fates {
		if f.what == replace || f.what == discard {
			u.going[f.old.ID] = f
		}
		s.added = s.added || f.what == create
		s.recreated = s.recreated || f.what == replace
		s.shrunk = s.shrunk || f.what == discard
		s.restarted = s.restarted || f.what == restart
		s.revived = s.revived || f.what == keep && f.start
	}
}

// burden orders fates by how much is lost when the container goes.
func burden(f *fate) int {
	switch {
	case f.reason == IsBroken:
		return 2
	case f.what == replace:
		return 1
	}
	return 0
}

// scaleUp adds the replicas that are missing, under the lowest free numbers: so a replica that was lost half way
// through a recreate comes back under its own.
func (u *up) scaleUp(s *course, have int) {
	taken := map[int]bool{}
	for _, f := range s.fates {
		taken[f.replica] = true
	}
	reason := Missing
	if have > 0 {
		reason = ScaleUp
	}
	for n, missing := 1, s.replicas-have; missing > 0; n++ {
		if taken[n] {
			continue
		}
		f := newFate(create, nil, n, reason)
		f.start = !u.opts.NoStart && !u.opts.Idle[s.Name]
		s.fates = append(s.fates, f)
		missing--
	}
}

// judge decides on one container as if the number of replicas were right.
func (u *up) judge(s *course, c *Container) *fate {
	parked := u.opts.KeepStopped && c.Stopped && !hasProcess(c)
	if parked && c.State != Broken && u.onRemadeNetwork(s, c) == "" {
		return newFate(keep, c, c.Replica, "")
	}
	if f := u.mustReplace(s, c); f != nil {
		f.start = !u.opts.NoStart && !parked && !u.idle(s, c) && (!s.bystander || hasProcess(c))
		if slices.Contains(u.opts.RollBack, s.Name) {
			f.reason, f.detail = RollingBack, because(Action{Reason: f.reason, Detail: f.detail})
		}
		return f
	}
	f := newFate(keep, c, c.Replica, "")
	if s.bystander {
		u.follow(s, f)
		return f
	}
	if !u.opts.NoRecreate && !u.opts.AsIs[s.Name] && !u.paused(s) {
		f.update, f.unfinished = u.inPlace(s, c), c.Updating
	}
	if c.State == Running || c.State == Paused {
		f.repair = c.Drift
	}
	u.keepGoing(s, f)
	if !f.start {
		u.follow(s, f)
	}
	return f
}

// keepGoing decides whether a container that stays is started or unpaused.
func (u *up) keepGoing(s *course, f *fate) {
	c := f.old
	switch {
	case f.stopCutOff() && !u.opts.NoStart && !u.opts.KeepStopped:
		f.what, f.start, f.reason = restart, true, StopUnfinished
	case u.opts.NoStart || c.State == Running || c.State == Restarting:
	case c.State == Paused:
		// Whoever asks for a stack that is up wants what is paused to go on; the loop leaves a user's pause alone.
		f.unpause = !u.opts.KeepStopped
	case c.State == Created:
		f.start, f.reason = !u.opts.Idle[s.Name], NotRunning
	case u.done(s, c):
	case !u.opts.KeepStopped:
		f.start, f.reason, f.detail = true, HasExited, exitCode(c)
	case c.Due && c.Broken != "":
		f.start, f.reason, f.detail = true, Drifted, c.Broken
	case c.Due, policyStarts(c, s.Restart):
		f.start, f.reason, f.detail = true, RestartPolicy, exitCode(c)
	}
}

// stopCutOff tells whether the container runs though a stop was begun: it was told to end and may do so at any time, and nobody
// would start it again then.
func (f *fate) stopCutOff() bool { return f.old.State == Running && f.old.Stopped }

// idle tells whether a container was created only, and is to stay so.
func (u *up) idle(s *course, c *Container) bool { return u.opts.Idle[s.Name] && !hasProcess(c) }

// done tells whether a one-shot container has done what it is for.
func (u *up) done(s *course, c *Container) bool {
	return u.oneShot[s.Name] && c.State == Exited && c.ExitCode == 0
}

// policyStarts tells whether an exited container should run by its restart policy. With a limit of attempts only who
// counts them can tell, and that shows in the state Restarting.
func policyStarts(c *Container, policy spec.Restart) bool {
	switch policy.Condition {
	case spec.RestartAlways, spec.RestartUnlessStopped:
		return !c.Stopped && policy.MaxAttempts == 0
	case spec.RestartOnFailure:
		return !c.Stopped && c.ExitCode != 0 && policy.MaxAttempts == 0
	}
	return false
}

// follow turns a running container's fate into a restart where something it is tied to goes down.
func (u *up) follow(s *course, f *fate) {
	if u.opts.NoStart || !hasProcess(f.old) {
		return
	}
	for _, l := range s.links {
		provider := u.services[l.service]
		reason := Reason("")
		switch {
		case l.follows() && provider.recreated:
			reason = DependencyRecreated
		case l.follows() && provider.restarted, l.shares && provider.revived:
			reason = DependencyRestarted
		default:
			continue
		}
		if s.bystander && u.opts.NoDeps && !l.shares {
			continue
		}
		f.what, f.reason, f.detail, f.start, f.unpause = restart, reason, l.service, true, false
		if u.homeless(f.old) {
			f.what, f.reason = replace, NamespaceRecreated // it couldn't start again as it is
		}
		return
	}
}

// homeless tells whether a container shares a namespace of a container that isn't there any more.
func (u *up) homeless(c *Container) bool {
	return slices.ContainsFunc(c.NamespaceOf, func(id string) bool { return !u.present[id] })
}

func exitCode(c *Container) string { return fmt.Sprintf("exit code %d", c.ExitCode) }
