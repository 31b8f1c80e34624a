package reconciler

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// mountsGather is how long changes of the mount table are gathered: each start of a container is several.
const mountsGather = 100 * time.Millisecond

// watchMounts wakes the stacks whose volumes are mounted from elsewhere when the mount table changes. Root filesystems are not
// in it: they are their containers' own.
func (r *Reconciler) watchMounts() error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	wake, waker, err := os.Pipe()
	if err != nil {
		table.Close()
		return err
	}
	r.spawn(func() {
		<-r.ctx.Done()
		waker.Close()
	})
	r.spawn(func() {
		defer table.Close()
		defer wake.Close()
		for {
			// The kernel says once that the table has changed since it was last asked.
			fds := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				r.logf("watch mounts: %v; the full pass looks at them", err)
				return
			}
			select {
			case <-time.After(mountsGather):
			case <-r.ctx.Done():
				return
			}
			if fds[0].Revents != 0 {
				r.wakeMounted()
			}
		}
	})
	return nil
}

// wakeMounted wakes the stacks that have volumes with a mount, where one is missing.
func (r *Reconciler) wakeMounted() {
	var asked, stacks []string
	for _, v := range r.engine.List("") {
		if !v.Running() || slices.Contains(stacks, v.Stack) {
			continue
		}
		for _, name := range v.Volumes {
			if slices.Contains(asked, name) {
				continue
			}
			asked = append(asked, name)
			if c, err := r.volumes.Observe(name); err == nil && len(c.Drift)+len(c.Damage) > 0 {
				stacks = append(stacks, v.Stack)
				break
			}
		}
	}
	for _, name := range stacks {
		r.wake(r.stack(name))
	}
}
