package planner

import (
	"slices"

	"github.com/stack-run/stack/spec"
)

// draftPostStart runs the post_start hooks of a container after its start. What waits for the start waits for them.
func (u *up) draftPostStart(s *course, f *fate, action Action) {
	if len(s.PostStart) == 0 {
		return
	}
	action.Kind, action.Changes = PostStart, nil
	f.postStartID = u.add(s.rank, action)
	u.after(f.postStartID, f.startID)
}

// draftPending makes up for hooks of a container that runs: they failed, or a crash came between.
func (u *up) draftPending(s *course, f *fate, c *Container, action Action) {
	if f.startID != none || s.bystander || u.opts.NoStart || c.State != Running || !c.HooksPending {
		return
	}
	action.Kind, action.Reason, action.Detail, action.Changes = PostStart, HooksPending, "", nil
	f.postStartID = u.add(s.rank, action)
	u.after(f.postStartID, f.updateID)
}

// started is the action with which the container's start is over; none where it isn't started.
func (f *fate) started() int {
	if f.postStartID != none {
		return f.postStartID
	}
	return f.startID
}

// draftPreStart runs the pre_start hooks before the first start of a container. Those that are once for all run when no container
// that stays has had them: for new ones beside it, as the specification has it, they are not run again.
func (u *up) draftPreStart(s *course, f *fate, action Action) {
	if len(s.PreStart) == 0 || f.createID == none && f.stays().Initialized {
		return
	}
	action.Kind, action.Changes = PreStart, nil
	if s.preStartID == none && len(s.PreStartHooks(false)) > 0 && !s.initialized() {
		once := action
		once.Address = spec.ServiceAddress(s.Name).String()
		s.preStartID = u.add(s.rank, once)
		u.after(s.preStartID, f.createID, f.stopID)
	}
	if len(s.PreStartHooks(true)) > 0 {
		f.preStartID = u.add(s.rank, action)
		u.after(f.preStartID, f.createID, f.stopID, s.preStartID)
	}
	u.after(f.startID, s.preStartID, f.preStartID)
}

// initialized tells whether a container that stays has had the hooks that are once for all.
func (s *course) initialized() bool {
	return slices.ContainsFunc(s.fates, func(f *fate) bool {
		c := f.stays()
		return c != nil && c.Initialized
	})
}

// stays is the container that is there and stays: the old one, or its successor that a rollout has begun with.
func (f *fate) stays() *Container {
	switch {
	case f.next != nil:
		return f.next
	case f.what == keep || f.what == restart:
		return f.old
	}
	return nil
}
