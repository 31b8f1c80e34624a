package netdriver

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/firewall"
)

// hold is what a container's ports and virtual addresses are held by.
type hold struct {
	fronts []firewall.Mapping
	until  time.Time
}

// Hold makes the kernel drop new connections to the ports and virtual addresses of containers, published or not, so that
// their clients try again until what takes the containers' place is there: for d at most, whether or not a daemon is there
// to end it. What other serving containers of the group stand behind is not held: they take the connections. Hold before
// the containers stop; their established connections go on.
func (m *Manager) Hold(_ context.Context, containerIDs []string, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock() // a hold is rare, and must not be crossed by its end
	var all []firewall.Mapping
	for id, h := range m.held {
		if time.Now().After(h.until) {
			delete(m.held, id)
		}
	}
	for _, id := range containerIDs {
		fronts, err := m.frontsOf(id)
		if err != nil {
			return err
		}
		fronts = slices.DeleteFunc(fronts, func(front firewall.Mapping) bool { return m.servedWithout(front, containerIDs) })
		if len(fronts) == 0 {
			continue
		}
		m.held[id] = hold{fronts, time.Now().Add(d)}
		all = append(all, fronts...)
	}
	return m.opts.Firewall.Hold(all, d)
}

// Unhold ends what Hold began for these containers, which may be gone by now.
func (m *Manager) Unhold(_ context.Context, containerIDs []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []firewall.Mapping
	for _, id := range containerIDs {
		all = append(all, m.held[id].fronts...)
	}
	err := m.opts.Firewall.Unhold(all)
	if err != nil && !errors.Is(err, unix.ENOENT) { // without a table nothing is held
		return err
	}
	for _, id := range containerIDs {
		delete(m.held, id)
	}
	return nil
}

// inheritedFor is how long after its start a daemon may find holds that another one began: longer than most stops take.
const inheritedFor = 10 * time.Minute

// endInherited ends what a daemon that is gone has begun to hold, where somebody serves it now. The kernel would end it, but
// only when whoever was to take the place could have taken the longest. A standby counts: it serves where nobody else does.
func (m *Manager) endInherited(members map[string]member) error {
	if time.Since(m.opened) > inheritedFor {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	own := map[firewall.Mapping]bool{}
	for _, h := range m.held {
		for _, front := range h.fronts {
			own[front] = true
		}
	}
	var fronts []firewall.Mapping
	for _, one := range members {
		for _, mapping := range one.mappings {
			if front := mapping.Front(); one.readiness != Drained && !own[front] {
				fronts = append(fronts, front)
			}
		}
	}
	if err := m.opts.Firewall.Unhold(fronts); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// frontsOf lists what leads to a container, or would if it ran. The caller holds m.mu.
func (m *Manager) frontsOf(id string) (out []firewall.Mapping, err error) {
	list := m.fronts.members[id].mappings
	if len(list) == 0 {
		var endpoints []Endpoint
		for network := range m.leases {
			if e := m.leaseOf(network, id); e != nil {
				e.Ports = slices.DeleteFunc(slices.Clone(e.Ports), func(p Port) bool { return p.HostPort == 0 || p.HostPortEnd > p.HostPort })
				endpoints = append(endpoints, *e)
			}
		}
		if list, err = m.mappings(id, endpoints); err != nil {
			return nil, err
		}
	}
	for _, m := range list {
		out = append(out, m.Front())
	}
	return out, nil
}

// servedWithout tells whether others than these containers serve a front. The caller holds m.mu.
func (m *Manager) servedWithout(front firewall.Mapping, ids []string) bool {
	for id := range m.fronts.behind[front] {
		if !slices.Contains(ids, id) && m.fronts.members[id].readiness == Serving {
			return true
		}
	}
	return false
}
