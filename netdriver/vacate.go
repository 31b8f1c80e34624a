package netdriver

import (
	"context"
	"net/netip"
	"slices"
)

// Vacate gives back what a container has no longer, while it may run: its addresses on networks that are not among its
// endpoints', and its claims on host ports that are not.
func (m *Manager) Vacate(ctx context.Context, containerID string, endpoints []Endpoint) error {
	m.mu.Lock()
	var changed []string
	for network := range m.leases {
		left := m.leaseOf(network, containerID) != nil && !slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Network == network })
		if left && m.unlease(network, containerID) {
			changed = append(changed, network)
		}
	}
	for _, e := range endpoints { // an address that was exchanged for another one
		for a, have := range m.leases[e.Network] {
			if have.ContainerID == containerID && e.IPv4 != netip.PrefixFrom(a, e.IPv4.Bits()) && e.IPv6 != netip.PrefixFrom(a, e.IPv6.Bits()) {
				delete(m.leases[e.Network], a)
			}
		}
	}
	kept := map[hostPort]bool{}
	for _, e := range endpoints {
		for _, p := range e.Ports {
			for _, hp := range p.occupies() {
				kept[hp] = true
			}
		}
	}
	for hp, list := range m.claims {
		if !kept[hp] && list.has(Holder{ContainerID: containerID}) {
			m.dropClaims(hp, list, containerID)
		}
	}
	m.mu.Unlock()
	for _, network := range changed {
		if err := m.answer(ctx, network); err != nil {
			return err
		}
	}
	return nil
}

// Held are the addresses of the sockets that hold a resolved port, such as "tcp 0.0.0.0:80".
func (p Port) Held() (addresses []string) {
	hosts := []netip.Addr{p.HostIP}
	if !p.HostIP.IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, host := range hosts {
		addresses = append(addresses, p.Protocol+" "+netip.AddrPortFrom(host, p.HostPort).String())
	}
	return addresses
}
