package netdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/firewall"
)

// Publish makes the ports of the sandboxes' endpoints (resolved by Reserve, addresses by Allocate) reachable: one
// transaction for all. Publishing again what is published changes nothing; a container's earlier ports that are not
// among its endpoints' any more are withdrawn.
func (m *Manager) Publish(_ context.Context, sandboxes []Sandbox) error {
	var add, remove []firewall.Mapping
	next := map[string][]firewall.Mapping{}
	m.mu.Lock()
	for _, s := range sandboxes {
		list, err := m.mappings(s.ContainerID, s.Endpoints)
		if err != nil {
			m.mu.Unlock()
			return err
		}
		next[s.ContainerID] = list
		add = append(add, list...)
		for _, old := range m.published[s.ContainerID] {
			if !slices.Contains(list, old) {
				remove = append(remove, old)
			}
		}
	}
	m.mu.Unlock()
	if err := m.opts.Firewall.Map(add, remove); err != nil {
		return err
	}
	m.mu.Lock()
	for id, list := range next {
		if len(list) == 0 {
			delete(m.published, id)
			continue
		}
		m.published[id] = list
	}
	m.mu.Unlock()
	// A client that went on sending before the port was published has a flow without translation, which its own
	// packets keep alive.
	return forgetFlows(add, remove)
}

// Unpublish withdraws all ports of the containers: one transaction for all.
func (m *Manager) Unpublish(_ context.Context, containerIDs []string) error {
	m.mu.Lock()
	var remove []firewall.Mapping
	for _, id := range containerIDs {
		remove = append(remove, m.published[id]...)
	}
	m.mu.Unlock()
	if err := m.opts.Firewall.Map(nil, remove); err != nil {
		return err
	}
	m.mu.Lock()
	for _, id := range containerIDs {
		delete(m.published, id)
	}
	// Whoever takes such a port from now on has it: a later Reserve finds out.
	for hp, c := range m.claims {
		if slices.Contains(containerIDs, c.id) {
			delete(m.claims, hp)
		}
	}
	m.mu.Unlock()
	return forgetFlows(nil, remove)
}

// mappings works out what publishes the ports of one container. The caller holds m.mu.
func (m *Manager) mappings(id string, endpoints []Endpoint) ([]firewall.Mapping, error) {
	var out []firewall.Mapping
	for _, e := range endpoints {
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
	m.mu.Lock()
	var want []firewall.Mapping
	for _, list := range m.published {
		want = append(want, list...)
	}
	m.mu.Unlock()
	have, err := m.opts.Firewall.Mappings()
	if err != nil {
		return err
	}
	var add, remove []firewall.Mapping
	for _, w := range want {
		if !slices.Contains(have, w) {
			add = append(add, w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			remove = append(remove, h)
		}
	}
	err = m.opts.Firewall.Map(add, remove)
	if errors.Is(err, unix.ENOENT) {
		return nil // no table, as after a reboot: what was published there ended with it, and is published when it starts again
	}
	return err
}

// flowFilter matches UDP flows that came in on the host side of a changed mapping, or go to its target.
type flowFilter struct {
	hosts   map[netip.AddrPort]bool
	any     map[uint16]bool
	targets map[netip.AddrPort]bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	to := netip.AddrPortFrom(dst.Unmap(), flow.Forward.DstPort)
	src, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	from := netip.AddrPortFrom(src.Unmap(), flow.Reverse.SrcPort)
	translated := to != from
	switch {
	case f.targets[from]:
		return true
	case f.hosts[to]:
		return true
	default:
		return f.any[to.Port()] && !translated
	}
}

// forgetFlows drops the kernel's memory of UDP flows of changed ports: new packets must see the new rules. TCP
// connections end by themselves.
func forgetFlows(changed ...[]firewall.Mapping) error {
	f := flowFilter{map[netip.AddrPort]bool{}, map[uint16]bool{}, map[netip.AddrPort]bool{}}
	families := map[netlink.InetFamily]bool{}
	for _, m := range slices.Concat(changed...) {
		if m.Protocol != "udp" {
			continue
		}
		f.targets[m.Target] = true
		if m.Host.Addr().IsValid() {
			f.hosts[m.Host] = true
		} else {
			f.any[m.Host.Port()] = true
		}
		families[map[bool]netlink.InetFamily{true: unix.AF_INET, false: unix.AF_INET6}[m.Target.Addr().Is4()]] = true
	}
	for family := range families {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget flows of UDP ports: %w", err)
		}
	}
	return nil
}
