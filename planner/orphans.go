package planner

import (
	"fmt"

	"github.com/stack-run/stack/spec"
)

// isOrphan tells whether a container of this stack belongs to no service of the stack file, enabled or not. Those that
// `run` made for a service go with its `down`, as in Compose.
func (u *up) isOrphan(c *Container) bool { return isOrphan(u.desired, c) }

func isOrphan(desired *spec.Stack, c *Container) bool {
	if c.Job != "" {
		return hasProcess(c) && !hasJob(desired, c)
	}
	_, disabled := desired.Disabled[c.Service]
	return desired.Services[c.Service] == nil && desired.Jobs[c.Service] == nil && !disabled
}

// judgeOrphans condemns the orphans when asked to, and names them otherwise.
func (u *up) judgeOrphans() {
	for i := range u.observed.Containers {
		c := &u.observed.Containers[i]
		if u.opts.IgnoreOrphans || !u.isOrphan(c) {
			continue
		}
		if !u.opts.RemoveOrphans {
			noteOrphan(&u.draft, c)
			continue
		}
		f := newFate(discard, c, c.Replica, Orphan)
		u.orphans, u.going[c.ID] = append(u.orphans, f), f
	}
}

func (u *up) draftOrphans() {
	for _, f := range u.orphans {
		f.stopID, f.removeID = u.draftDiscard(rankInfra, f.old, f.reason, "", u.opts.Timeout)
	}
}

func noteOrphan(d *draft, c *Container) {
	d.note(containerAddress(c), fmt.Sprintf("the container %s is an orphan: it belongs to no service of the stack file", c.Name),
		"remove it with --remove-orphans")
}

// containerAddress is a container's service and replica, the service alone when it was made by `run`, or the job it is a run of.
func containerAddress(c *Container) string {
	if c.Job != "" {
		return spec.JobAddress(c.Job).String()
	}
	if c.OneOff {
		return spec.ServiceAddress(c.Service).String()
	}
	return spec.ReplicaAddress(c.Service, c.Replica).String()
}
