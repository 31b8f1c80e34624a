package netdriver

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/stack-run/stack/netdriver/dns"
)

// Sweep makes the kernel agree with what is known, after a daemon has died at any moment. Call it at the daemon's start,
// after Restore: links, rules, published ports and DNS records that belong to no network on record or to no container in
// live are removed, missing published ports are published again. Networks themselves are repaired by Ensure.
func (m *Manager) Sweep(ctx context.Context, live map[string]bool) error {
	m.kernel.Lock()
	defer m.kernel.Unlock()
	networks := m.List()
	var endpoints []Endpoint
	for _, e := range m.endpoints() {
		if live[e.ContainerID] {
			endpoints = append(endpoints, e)
		}
	}
	var errs []error
	for name, d := range m.opts.Drivers {
		s, ok := d.(Sweeper)
		if !ok {
			continue
		}
		var own []Network
		for _, n := range networks {
			if n.Driver == name {
				own = append(own, n)
			}
		}
		if err := s.Sweep(ctx, own, endpoints); err != nil {
			errs = append(errs, fmt.Errorf("clean up after networks of driver %s: %w", name, err))
		}
	}
	for _, n := range networks {
		errs = append(errs, m.answer(ctx, n.Name))
	}
	m.mu.Lock()
	gone := map[string]member{}
	for id := range m.fronts.members {
		if !live[id] {
			gone[id] = member{}
		}
	}
	stale := m.fronts.stale(frontChange{members: gone})
	m.fronts.commit(frontChange{members: gone})
	left := maps.Clone(m.fronts.members)
	m.mu.Unlock()
	errs = append(errs, m.republish(), stale.forget(), m.endInherited(left), m.sweepNames(networks, live))
	return errors.Join(errs...)
}

// sweepNames removes the DNS records of containers and networks that are gone.
func (m *Manager) sweepNames(networks []Network, live map[string]bool) error {
	known := map[string]bool{}
	for _, n := range networks {
		known[n.Name] = true
	}
	return dns.Sweep(m.dns, func(network, id string) bool { return known[network] && live[id] })
}
