package netdriver

import (
	"context"
	"errors"
	"slices"

	"github.com/stack-run/stack/netdriver/dns"
)

// SetReadiness changes who takes new connections, by container id: all ports and virtual addresses in one transaction, then
// the names. Established connections stay where they are. Containers that hold nothing are passed over. The caller keeps
// the readiness in the containers' records, by which the next daemon restores it.
func (m *Manager) SetReadiness(_ context.Context, changes map[string]Readiness) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	next := map[string]member{}
	var renamed []Endpoint
	m.mu.Lock()
	for id, r := range changes {
		if have, ok := m.fronts.members[id]; ok && have.readiness != r {
			next[id] = member{r, have.mappings}
		}
	}
	for _, leased := range m.leases {
		for a, e := range leased {
			r, ok := changes[e.ContainerID]
			if !ok || e.Readiness == r {
				continue
			}
			e.Readiness = r
			leased[a] = e
			if e.IPv4.IsValid() && a == e.IPv4.Addr() || !e.IPv4.IsValid() {
				renamed = append(renamed, e)
			}
		}
	}
	m.mu.Unlock()
	err := m.replaceMembers(next, true)
	for _, e := range renamed {
		err = errors.Join(err, dns.UpdateRecord(m.dns, e.Network, record(e)))
	}
	return err
}

// Readiness tells what SetReadiness, or the endpoints of the container, said last.
func (m *Manager) Readiness(containerID string) Readiness {
	m.mu.Lock()
	defer m.mu.Unlock()
	for network := range m.leases {
		if e := m.leaseOf(network, containerID); e != nil {
			return e.Readiness
		}
	}
	return Serving
}

// record is what an endpoint's names resolve to.
func record(e Endpoint) dns.Record {
	r := dns.Record{ContainerID: e.ContainerID, Container: e.Container, Names: e.Names}
	if e.IPv4.IsValid() {
		r.Addresses = append(r.Addresses, e.IPv4.Addr())
	}
	if e.IPv6.IsValid() {
		r.Addresses = append(r.Addresses, e.IPv6.Addr())
	}
	if e.Group == "" {
		return r
	}
	r.Group = e.Group
	r.Rank = slices.Index([]Readiness{Serving, Standby, Drained}, e.Readiness)
	for _, name := range e.Names {
		if name != e.Container && name != shortID(e.ContainerID) {
			r.Shared = append(r.Shared, name)
		}
	}
	if e.VIP4.IsValid() {
		r.Virtual = append(r.Virtual, e.VIP4)
	}
	if e.VIP6.IsValid() {
		r.Virtual = append(r.Virtual, e.VIP6)
	}
	return r
}

// shortID is the id by which a container's name list knows it.
func shortID(id string) string { return id[:min(12, len(id))] }
