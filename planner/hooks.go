package planner

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
