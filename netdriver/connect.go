package netdriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/firewall"
	"github.com/stack-run/stack/netdriver/netns"
)

// Sandboxes prepared at the same time: most of it is waiting for the kernel.
const parallel = 4

// Connect makes sandboxes ready: loopback up, the name service's address redirected, every endpoint's interface with its
// addresses and routes, and its names on record. Endpoints must come from Allocate. Connecting again what is connected
// changes nothing. On an error the sandboxes may be partly connected: Disconnect them.
func (m *Manager) Connect(ctx context.Context, sandboxes []Sandbox) ([]Sandbox, error) {
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, s := range sandboxes {
		if s.Netns == "" {
			continue
		}
		group.Go(func() error {
			if err := m.prepare(s); err != nil {
				return fmt.Errorf("container %s: %w", s.ContainerID, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	err := m.eachNetwork(sandboxes, func(d Driver, n Network, part []Sandbox) error {
		err := d.Connect(ctx, n, part)
		if err == nil && slices.ContainsFunc(part, func(s Sandbox) bool { return s.Endpoints[0].WantVIP }) {
			err = m.answer(ctx, n.Name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	m.publishing.Lock() // who observes names sees them before or after
	defer m.publishing.Unlock()
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			if err := dns.WriteRecord(m.dns, e.Network, record(e)); err != nil {
				return nil, err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range sandboxes {
		m.noteConnected(s)
		for _, e := range s.Endpoints { // whoever looks later compares with what was made now
			for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
				if lease, ok := m.leases[e.Network][p.Addr()]; ok && lease.ContainerID == e.ContainerID {
					lease.Readiness = e.Readiness
					m.leases[e.Network][p.Addr()] = lease
				}
			}
		}
	}
	return sandboxes, nil
}

// noteConnected adds the endpoints of a sandbox to what is known of it, and of its leases. The caller holds m.mu.
func (m *Manager) noteConnected(s Sandbox) {
	for _, e := range s.Endpoints {
		for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
			if have, ok := m.leases[e.Network][p.Addr()]; ok && have.ContainerID == e.ContainerID {
				m.leases[e.Network][p.Addr()] = e
			}
		}
	}
	have := m.connected[s.ContainerID]
	if inode := namespace(s.Netns); have.Netns != s.Netns || have.inode != inode {
		have = Sandbox{ContainerID: s.ContainerID, Netns: s.Netns, inode: inode}
	}
	m.connected[s.ContainerID] = have.without(s).with(s)
}

func (s Sandbox) with(other Sandbox) Sandbox {
	s.Endpoints = append(slices.Clone(s.Endpoints), other.Endpoints...)
	return s
}

// without leaves out the networks of another.
func (s Sandbox) without(other Sandbox) Sandbox {
	s.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), func(e Endpoint) bool {
		return slices.ContainsFunc(other.Endpoints, func(o Endpoint) bool { return o.Network == e.Network })
	})
	return s
}

// eachNetwork calls fn once for each network with the sandboxes on it. Errors of the networks are joined.
func (m *Manager) eachNetwork(sandboxes []Sandbox, fn func(Driver, Network, []Sandbox) error) error {
	byNetwork := map[string][]Sandbox{}
	var order []string
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			if byNetwork[e.Network] == nil {
				order = append(order, e.Network)
			}
			part := Sandbox{ContainerID: s.ContainerID, Netns: s.Netns, Endpoints: []Endpoint{e}}
			byNetwork[e.Network] = append(byNetwork[e.Network], part)
		}
	}
	var errs []error
	for _, name := range order {
		n, err := m.Get(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d, err := m.driver(n)
		if err == nil {
			err = fn(d, n, byNetwork[name])
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// prepare does what every sandbox needs, whatever its networks.
func (m *Manager) prepare(s Sandbox) error {
	ns, err := os.Open(s.Netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	err = netns.DoFile(ns, func() error {
		// What new interfaces start with: no container may give another one routes, and where IPv6 is not
		// enabled there is none.
		if err := sysctl("net/ipv6/conf/default/accept_ra", "0"); err != nil {
			return err
		}
		six := slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.IPv6.IsValid() })
		if err := sysctl("net/ipv6/conf/default/disable_ipv6", map[bool]string{true: "0", false: "1"}[six]); err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
	})
	if err != nil || len(s.Endpoints) == 0 {
		return err
	}
	if err := firewall.Redirect(ns, dns.Address, dns.Port); err != nil {
		return fmt.Errorf("redirect the name service: %w", err)
	}
	return nil
}

// sysctl writes a setting of the thread's network namespace; a kernel without it needs none.
func sysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Disconnect takes the endpoints' names and interfaces away. Sandboxes that are gone, or were never connected, are no
// error. Addresses stay leased until Release.
func (m *Manager) Disconnect(ctx context.Context, sandboxes []Sandbox) error {
	m.mu.Lock()
	for _, s := range sandboxes {
		if left := m.connected[s.ContainerID].without(s); len(left.Endpoints) > 0 {
			m.connected[s.ContainerID] = left
		} else {
			delete(m.connected, s.ContainerID)
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			errs = append(errs, dns.RemoveRecord(m.dns, e.Network, s.ContainerID))
		}
	}
	// A network that went first took its links with it.
	known := make([]Sandbox, 0, len(sandboxes))
	for _, s := range sandboxes {
		s.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), func(e Endpoint) bool {
			_, err := m.Get(e.Network)
			return errors.Is(err, ErrNotFound)
		})
		known = append(known, s)
	}
	errs = append(errs, m.eachNetwork(known, func(d Driver, n Network, part []Sandbox) error { return d.Disconnect(ctx, n, part) }))
	return errors.Join(errs...)
}

// removeNames removes the DNS records of a network.
func (m *Manager) removeNames(network string) error {
	if err := dns.RemoveNetwork(m.dns, network); err != nil {
		return fmt.Errorf("remove network %s: %w", network, err)
	}
	return nil
}
