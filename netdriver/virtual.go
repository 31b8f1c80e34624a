package netdriver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// A virtual address is one that a group of containers has on a network beside their own. The host answers at it and deals
// its connections out to them as it does with published ports. It belongs to the group from the first container that wants it
// to the last that has it, and is on record with each of them.

// leaseVirtual notes an endpoint's virtual addresses. The caller holds m.mu.
func (m *Manager) leaseVirtual(e Endpoint) {
	for _, a := range []netip.Addr{e.VIP4, e.VIP6} {
		if !a.IsValid() {
			continue
		}
		if m.virtual[e.Network] == nil {
			m.virtual[e.Network] = map[netip.Addr]string{}
		}
		m.virtual[e.Network][a] = e.Group
	}
}

// dropVirtual forgets the virtual addresses of a network that no lease has any more, and tells whether there were some. The
// caller holds m.mu.
func (m *Manager) dropVirtual(network string) (dropped bool) {
	if len(m.virtual[network]) == 0 {
		return false
	}
	had := map[netip.Addr]bool{}
	for _, e := range m.leases[network] {
		had[e.VIP4], had[e.VIP6] = true, true
	}
	for a := range m.virtual[network] {
		if !had[a] {
			delete(m.virtual[network], a)
			dropped = true
		}
	}
	return dropped
}

// allocateVirtual gives an endpoint the group's virtual addresses. The caller holds m.mu.
func (m *Manager) allocateVirtual(n Network, e *Endpoint) error {
	e.VIP4, e.VIP6 = netip.Addr{}, netip.Addr{}
	if !e.WantVIP || e.Group == "" {
		return nil
	}
	if d, err := m.driver(n); err != nil {
		return err
	} else if _, ok := d.(Answerer); !ok {
		return fmt.Errorf("a virtual address: %w", ErrUnsupported)
	}
	for _, family := range []struct {
		own  netip.Prefix
		want *netip.Addr
	}{{e.IPv4, &e.VIP4}, {e.IPv6, &e.VIP6}} {
		if !family.own.IsValid() {
			continue
		}
		a, err := m.takeVirtual(n, e.Group, family.own.Addr().Is4())
		if err != nil {
			return err
		}
		*family.want = a
	}
	return nil
}

// takeVirtual finds the group's address of a family, or gives it one: always the same where that is free, so that clients
// that keep it find the group again after it was gone. The caller holds m.mu.
func (m *Manager) takeVirtual(n Network, group string, is4 bool) (netip.Addr, error) {
	for a, owner := range m.virtual[n.Name] {
		if owner == group && a.Is4() == is4 {
			return a, nil
		}
	}
	full := ""
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is4() != is4 {
			continue
		}
		room := s.Prefix
		if s.Range.IsValid() {
			room = s.Range
		}
		start := within(room, group)
		for a, wrapped := start, false; !wrapped || a != start; a = a.Next() {
			if !a.IsValid() || !room.Contains(a) {
				a, wrapped = room.Addr(), true
			}
			if m.isFree(n, s, a) {
				return a, nil
			}
			if wrapped && a == start {
				break
			}
		}
		full += " " + s.Prefix.String()
	}
	return netip.Addr{}, fmt.Errorf("a virtual address for %s: %w:%s", group, ErrExhausted, full)
}

// within picks an address of a prefix by a name.
func within(p netip.Prefix, name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	b := p.Addr().AsSlice()
	host := len(b)*8 - p.Bits()
	tail := binary.BigEndian.Uint64(sum[:8])
	if host < 64 {
		tail &= 1<<host - 1
	}
	for i := len(b) - 1; i >= 0 && tail != 0; i-- {
		b[i] |= byte(tail)
		tail >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// withVirtual completes a network for its driver. The caller doesn't hold m.mu.
func (m *Manager) withVirtual(n Network) Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.Virtual = slices.SortedFunc(maps.Keys(m.virtual[n.Name]), netip.Addr.Compare)
	return n
}

// answer makes the host answer at a network's virtual addresses, and no others.
func (m *Manager) answer(ctx context.Context, network string) error {
	n, err := m.Get(network)
	if err != nil {
		return nil // it went, and they with it
	}
	d, err := m.driver(n)
	if err != nil {
		return err
	}
	a, ok := d.(Answerer)
	if !ok {
		return nil
	}
	m.answering.Lock()
	defer m.answering.Unlock()
	return a.Answer(ctx, m.withVirtual(n))
}
