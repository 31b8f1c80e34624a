package netdriver

import (
	"cmp"
	"slices"

	"github.com/stack-run/stack/netdriver/firewall"
)

// fronts is what clients can connect to (published ports, virtual addresses), who stands behind it, and what the kernel
// has of it. The choice of the backends is made here, where it can be tested without a kernel; the kernel only looks up.
type fronts struct {
	members map[string]member                                // by container id
	behind  map[firewall.Mapping]map[string]firewall.Mapping // by front, then container id
	entered map[firewall.Mapping][]firewall.Mapping          // by front: the kernel's mappings
}

// member is a container with the mappings it would have alone, at most one for a front.
type member struct {
	readiness Readiness
	mappings  []firewall.Mapping
}

func newFronts() fronts {
	return fronts{map[string]member{}, map[firewall.Mapping]map[string]firewall.Mapping{}, map[firewall.Mapping][]firewall.Mapping{}}
}

// frontChange is what has to be done to the kernel, and what is true once it is.
type frontChange struct {
	members     map[string]member
	entered     map[firewall.Mapping][]firewall.Mapping
	add, remove []firewall.Mapping
}

// change works out what follows when members are replaced; one without mappings leaves.
func (f fronts) change(members map[string]member) frontChange {
	c := frontChange{members: members, entered: map[firewall.Mapping][]firewall.Mapping{}}
	touched := map[firewall.Mapping][]backend{}
	for id, next := range members {
		for _, m := range f.members[id].mappings {
			touched[m.Front()] = nil
		}
		for _, m := range next.mappings {
			touched[m.Front()] = nil
		}
	}
	for id, next := range members {
		for _, m := range next.mappings {
			touched[m.Front()] = append(touched[m.Front()], backend{id, m, next.readiness})
		}
	}
	for front, list := range touched {
		for id, m := range f.behind[front] {
			if _, replaced := members[id]; !replaced {
				list = append(list, backend{id, m, f.members[id].readiness})
			}
		}
		c.settle(front, spread(list, f.entered[front]), f.entered[front])
	}
	return c
}

// settle notes what is to be the case of one front.
func (c *frontChange) settle(front firewall.Mapping, want, have []firewall.Mapping) {
	c.entered[front] = want
	index := map[firewall.Mapping]bool{}
	for _, m := range have {
		index[m] = true
	}
	for _, m := range want {
		if !index[m] {
			c.add = append(c.add, m)
		}
		delete(index, m)
	}
	for _, m := range have {
		if index[m] {
			c.remove = append(c.remove, m)
		}
	}
}

// commit makes a change true.
func (f fronts) commit(c frontChange) {
	for id, next := range c.members {
		for _, m := range f.members[id].mappings {
			front := m.Front()
			if delete(f.behind[front], id); len(f.behind[front]) == 0 {
				delete(f.behind, front)
			}
		}
		if delete(f.members, id); len(next.mappings) == 0 {
			continue
		}
		f.members[id] = next
		for _, m := range next.mappings {
			front := m.Front()
			if f.behind[front] == nil {
				f.behind[front] = map[string]firewall.Mapping{}
			}
			f.behind[front][id] = m
		}
	}
	for front, list := range c.entered {
		if f.entered[front] = list; len(list) == 0 {
			delete(f.entered, front)
		}
	}
}

// all is the change that makes the kernel have what is known, from what it has.
func (f fronts) all(have []firewall.Mapping) frontChange {
	c := frontChange{entered: map[firewall.Mapping][]firewall.Mapping{}}
	lists := byFront(have)
	known := func(front firewall.Mapping) { // one that the kernel has nothing of is a front as well
		if _, ok := lists[front]; !ok {
			lists[front] = nil
		}
	}
	for front := range f.entered {
		known(front)
	}
	for front := range f.behind {
		known(front)
	}
	for front, list := range lists {
		var candidates []backend
		for id, m := range f.behind[front] {
			candidates = append(candidates, backend{id, m, f.members[id].readiness})
		}
		c.settle(front, spread(candidates, list), list)
	}
	return c
}

func byFront(list []firewall.Mapping) map[firewall.Mapping][]firewall.Mapping {
	out := map[firewall.Mapping][]firewall.Mapping{}
	for _, m := range list {
		out[m.Front()] = append(out[m.Front()], m)
	}
	return out
}

type backend struct {
	id        string
	mapping   firewall.Mapping
	readiness Readiness
}

// choose picks who takes new connections: those that serve, else those that stand by, in the order of their ids.
func choose(all []backend) (out []backend) {
	for _, wanted := range []Readiness{Serving, Standby} {
		for _, b := range all {
			if b.readiness == wanted {
				out = append(out, b)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	slices.SortFunc(out, func(a, b backend) int { return cmp.Compare(a.id, b.id) })
	return out
}

// spread deals the slots of a front to the chosen backends, as evenly as they go; who has slots keeps what is its share, so
// that a change costs what changed. More than firewall.Slots backends don't get one each: those beyond get none.
func spread(all []backend, have []firewall.Mapping) []firewall.Mapping {
	chosen := choose(all)
	switch len(chosen) {
	case 0:
		return nil
	case 1:
		return []firewall.Mapping{chosen[0].mapping}
	}
	chosen = chosen[:min(len(chosen), firewall.Slots)]
	share, extra := firewall.Slots/len(chosen), firewall.Slots%len(chosen)
	var slots [firewall.Slots + 1]firewall.Mapping
	counts := make([]int, len(chosen))
	for _, h := range have {
		i := slices.IndexFunc(chosen, func(b backend) bool { return b.id == h.Owner && b.mapping.Target == h.Target })
		if i < 0 || h.Slot < 1 || h.Slot > firewall.Slots || counts[i] > share || counts[i] == share && extra == 0 {
			continue
		}
		if counts[i]++; counts[i] > share {
			extra--
		}
		slots[h.Slot] = h
	}
	out := make([]firewall.Mapping, 0, firewall.Slots)
	for slot := 1; slot <= firewall.Slots; slot++ {
		m := slots[slot]
		if m.Slot == 0 {
			least := 0
			for i, n := range counts {
				if n < counts[least] {
					least = i
				}
			}
			counts[least]++
			m = chosen[least].mapping
			m.Slot = slot
		}
		out = append(out, m)
	}
	return out
}
