package netdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/firewall"
)

// Publish makes the ports of the sandboxes' endpoints (resolved by Reserve, addresses by Allocate) and the virtual addresses
// of their groups lead to them, by their readiness: one transaction for all. Publishing again what is published changes
// nothing; a container's earlier ports that are not among its endpoints' any more are withdrawn.
func (m *Manager) Publish(_ context.Context, sandboxes []Sandbox) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	next := map[string]member{}
	for _, s := range sandboxes {
		m.mu.Lock()
		list, err := m.mappings(s.ContainerID, s.Endpoints)
		m.mu.Unlock()
		if err != nil {
			return err
		}
		next[s.ContainerID] = member{readinessOf(s.Endpoints), list}
	}
	return m.replaceMembers(next, false)
}

// Unpublish withdraws all ports of the containers, and takes them from behind virtual addresses: one transaction for all.
func (m *Manager) Unpublish(_ context.Context, containerIDs []string) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	next := map[string]member{}
	for _, id := range containerIDs {
		next[id] = member{}
	}
	if err := m.replaceMembers(next, true); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unclaim(containerIDs...) // whoever takes such a port from now on has it: a later Reserve finds out
	return nil
}

// replaceMembers changes the kernel, then what is known. Where others took the whole table away, knowing may be enough: the
// repair of the table publishes what is known. The caller holds m.publishing.
func (m *Manager) replaceMembers(next map[string]member, knowing bool) error {
	m.mu.Lock()
	c := m.fronts.change(next)
	stale := m.fronts.stale(c)
	m.mu.Unlock()
	if err := m.opts.Firewall.Map(c.add, c.remove); err != nil && !(knowing && errors.Is(err, firewall.ErrNoTable)) {
		return err
	}
	m.mu.Lock()
	m.fronts.commit(c)
	m.mu.Unlock()
	return errors.Join(stale.forget(), m.endInherited(next))
}

// Published tells whether endpoints have anything for Publish.
func Published(endpoints []Endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e Endpoint) bool { return len(e.Ports) > 0 || e.VIP4.IsValid() || e.VIP6.IsValid() })
}

func readinessOf(endpoints []Endpoint) Readiness {
	if len(endpoints) == 0 {
		return Serving
	}
	return endpoints[0].Readiness
}

// mappings works out what leads to one container. The caller holds m.mu.
func (m *Manager) mappings(id string, endpoints []Endpoint) ([]firewall.Mapping, error) {
	var out []firewall.Mapping
	for _, e := range endpoints {
		for _, family := range []struct {
			virtual netip.Addr
			own     netip.Prefix
		}{{e.VIP4, e.IPv4}, {e.VIP6, e.IPv6}} {
			if family.virtual.IsValid() && family.own.IsValid() {
				out = append(out, firewall.Mapping{Host: netip.AddrPortFrom(family.virtual, 0), Target: netip.AddrPortFrom(family.own.Addr(), 0), Owner: id})
			}
		}
		if len(e.Ports) == 0 {
			continue
		}
		if n, ok := m.networks[e.Network]; ok && n.Internal {
			m.opts.Logf("container %s: its ports are not published: network %s is internal", e.Container, e.Network)
			continue
		}
		for _, p := range e.Ports {
			if p.HostPort == 0 {
				return nil, fmt.Errorf("container %s: port %d has not been reserved", e.Container, p.Target)
			}
			for _, target := range []netip.Addr{e.IPv4.Addr(), e.IPv6.Addr()} {
				host, ok := hostFor(p.HostIP, target)
				if !ok {
					continue
				}
				out = append(out, firewall.Mapping{
					Protocol: p.Protocol, Host: netip.AddrPortFrom(host, p.HostPort),
					Target: netip.AddrPortFrom(target, p.Target), Owner: id,
				})
			}
		}
	}
	return out, nil
}

// hostFor is the host address of a mapping to target; invalid for all addresses of its family. Not ok when the port is
// not published in that family.
func hostFor(hostIP, target netip.Addr) (netip.Addr, bool) {
	switch {
	case !target.IsValid():
		return netip.Addr{}, false
	case !hostIP.IsValid():
		return netip.Addr{}, true
	case hostIP.Is4() != target.Is4():
		return netip.Addr{}, false
	case hostIP.IsUnspecified():
		return netip.Addr{}, true
	}
	return hostIP, true
}

// republish brings the firewall table to what is known to be published.
func (m *Manager) republish() error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	have, err := m.opts.Firewall.Mappings()
	if err != nil {
		return err
	}
	m.mu.Lock()
	c := m.fronts.all(have)
	m.mu.Unlock()
	err = m.opts.Firewall.Map(c.add, c.remove)
	if errors.Is(err, unix.ENOENT) {
		return nil // no table, as after a reboot: what was published there ended with it, and is published when it starts again
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fronts.commit(c)
	return nil
}
