package reconciler

import (
	"slices"
	"time"

	"github.com/stack-run/stack/runtime/notice"
)

// mountsGather is how long changes of the mount table are gathered: each start of a container is several.
const mountsGather = 100 * time.Millisecond

// watchMounts wakes the stacks whose volumes are mounted from elsewhere when the mount table changes. Root filesystems are not
// in it: they are their containers' own.
func (r *Reconciler) watchMounts() error {
	wait, err := notice.Mounts(r.ctx)
	if err != nil {
		return err
	}
	r.spawn(func() {
		for {
			err := wait()
			if r.ctx.Err() != nil {
				return
			}
			if err != nil {
				r.logf("watch mounts: %v; the full pass looks at them", err)
				return
			}
			r.wakeMounted()
			select {
			case <-time.After(mountsGather):
			case <-r.ctx.Done():
				return
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
			if c, err := r.volumes.Observe(name, true); err == nil && len(c.Drift)+len(c.Damage) > 0 {
				stacks = append(stacks, v.Stack)
				break
			}
		}
	}
	for _, name := range stacks {
		r.wake(r.stack(name))
	}
}
