package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// netCourse is what a plan does to one network.
type netCourse struct {
	*spec.Network
	observed *Network
	// remake says that the network's options changed: it is removed and created, and so is every container on it.
	remake bool

	removeID int
	readyID  int // creates or repairs it
}

// builtin tells whether the network is one that every host has and no stack makes.
func (n *netCourse) builtin() bool {
	return n.External && (n.Name == "host" || n.Name == "none" || n.Name == "bridge")
}

// judgeNetworks looks at the networks that the chosen services use.
func (u *up) judgeNetworks() {
	for _, name := range u.order {
		s := u.services[name]
		if !s.bystander {
			u.useNetworks(s)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(u.networks)) {
		if n := u.networks[key]; n.differs(u.desired.Name) {
			n.remake = true
			u.checkRemake(n)
		}
	}
}

func (u *up) useNetworks(s *course) {
	for _, key := range usedNetworks(s.Service) {
		if n := u.desired.Networks[key]; n != nil && u.networks[key] == nil {
			u.networks[key] = &netCourse{Network: n, observed: u.observed.Networks[n.Name], removeID: none, readyID: none}
		}
	}
}

// usedNetworks are the keys of the networks that a service's containers and its pre_start hooks are on, sorted.
func usedNetworks(s *spec.Service) []string {
	keys := slices.Collect(maps.Keys(s.Networks))
	for i := range s.PreStart {
		keys = append(keys, slices.Collect(maps.Keys(s.PreStart[i].Networks))...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// differs tells whether the network is there, this stack's own, and made with other options.
func (n *netCourse) differs(stack string) bool {
	o := n.observed
	return o != nil && !n.External && o.Stack == stack && o.Digest != "" && o.Digest != NetworkDigest(*n.Network)
}

// holds tells whether a container has addresses on a network: running or not, until it is removed.
func (c *Container) holds(network string) bool {
	_, on := c.Networks[network]
	return on
}

// attached tells whether a container that may have a process is on the network.
func (c *Container) attached(network string) bool { return c.holds(network) && hasProcess(c) }

// checkRemake finds containers that would keep a network with changed options from being removed.
func (u *up) checkRemake(n *netCourse) {
	users := slices.Clone(n.observed.Users)
	for i := range u.observed.Containers {
		c := &u.observed.Containers[i]
		if !c.attached(n.Name) {
			continue
		}
		remade := !c.OneOff && u.services[c.Service] != nil
		removed := u.opts.RemoveOrphans && !u.opts.IgnoreOrphans && u.isOrphan(c)
		if !remade && !removed {
			users = append(users, c.Name)
		}
	}
	if len(users) > 0 {
		u.problem(Problem{
			Kind: ErrInUse, Address: spec.NetworkAddress(n.Key).String(),
			Summary: fmt.Sprintf("the options of the network %s changed, but containers that this plan doesn't recreate are on it: %s", n.Name, strings.Join(users, ", ")),
			Remedy:  "remove these containers first (--remove-orphans where they are orphans), or give the network another name",
		})
	}
}

// draftNetworks creates the networks that are missing, removes and creates those that differ, and repairs those of which
// something is missing in the kernel. Containers that are made again although nobody asked for their services may need
// networks, too; those are never removed for that.
func (u *up) draftNetworks() {
	for _, s := range u.services {
		if s.bystander && s.makesContainers() {
			u.useNetworks(s)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(u.networks)) {
		n := u.networks[key]
		address := spec.NetworkAddress(key).String()
		action := Action{Address: address, Name: n.Name}
		switch {
		case n.builtin():
		case n.observed == nil && n.External:
			u.problem(Problem{
				Kind: ErrNotFound, Address: address,
				Summary: fmt.Sprintf("the network %s is external and doesn't exist", n.Name),
				Remedy:  "bring up the stack that makes it, or remove `external: true` so that this one does",
			})
		case n.observed == nil:
			action.Kind, action.Reason = CreateNetwork, Missing
			n.readyID = u.add(rankInfra, action)
		case n.remake:
			action.Kind, action.Reason = RemoveNetwork, SpecChanged
			n.removeID = u.add(rankInfra, action)
			action.Kind = CreateNetwork
			n.readyID = u.add(rankInfra, action)
			u.after(n.readyID, n.removeID)
		case n.External:
		case n.observed.Stack != u.desired.Name:
			u.note(address, fmt.Sprintf("the network %s exists but was not made by this stack; it is used as it is", n.Name),
				"say `external: true` if that is meant, or give the network another name")
		case len(n.observed.Drift) > 0:
			action.Kind, action.Reason, action.Detail = RepairNetwork, Drifted, strings.Join(n.observed.Drift, ", ")
			n.readyID = u.add(rankInfra, action)
		}
	}
}

// linkNetworks lets networks that are made again wait for the containers on them to be gone.
func (u *up) linkNetworks() {
	for _, n := range u.networks {
		if !n.remake {
			continue
		}
		for _, f := range u.allFates() {
			if f.old == nil {
				continue
			}
			if _, on := f.old.Networks[n.Name]; on {
				u.after(n.removeID, f.removeID)
				f.early = true
			}
		}
	}
}

// allFates are those of all services and orphans.
func (u *up) allFates() []*fate {
	var all []*fate
	for _, name := range u.graph.order {
		all = append(all, u.services[name].fates...)
	}
	return append(all, u.orphans...)
}
