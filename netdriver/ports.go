package netdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// hostPort is what a published port occupies. An invalid address stands for every address of the host.
type hostPort struct {
	protocol string
	addr     netip.Addr
	port     uint16
}

type claim struct{ id, name, group string }

type claims []claim

// has tells whether the container itself is among them.
func (l claims) has(h Holder) bool {
	return slices.ContainsFunc(l, func(c claim) bool { return c.id == h.ContainerID })
}

// shared tells whether another of its group is.
func (l claims) shared(h Holder) bool {
	return slices.ContainsFunc(l, func(c claim) bool { return c.id != h.ContainerID && c.group == h.Group })
}

// unclaim forgets the claims of containers. The caller holds m.mu.
func (m *Manager) unclaim(ids ...string) {
	for hp, list := range m.claims {
		m.dropClaims(hp, list, ids...)
	}
}

func (m *Manager) dropClaims(hp hostPort, list claims, ids ...string) {
	list = slices.DeleteFunc(slices.Clone(list), func(c claim) bool { return slices.Contains(ids, c.id) })
	if m.claims[hp] = list; len(list) == 0 {
		delete(m.claims, hp)
	}
}

// PortInUseError says who has a port. It is an ErrPortInUse.
type PortInUseError struct {
	Protocol  string
	Host      netip.AddrPort // an unspecified address stands for every address
	Container string         // the container of this daemon that publishes it, or empty
	PID       int            // the process that has it, or 0 when that can't be told
	Program   string         // its name
}

func (e *PortInUseError) Error() string {
	by := ""
	switch {
	case e.Container != "":
		by = " by container " + e.Container
	case e.PID != 0:
		by = fmt.Sprintf(" by %s (process %d)", e.Program, e.PID)
	}
	return fmt.Sprintf("%s %s: %v%s", e.Protocol, e.Host, ErrPortInUse, by)
}

func (e *PortInUseError) Unwrap() error { return ErrPortInUse }

// occupies lists the host ports of a resolved port.
func (p Port) occupies() []hostPort {
	return []hostPort{{p.Protocol, p.HostIP, p.HostPort}}
}

// attempts to find a random port that is free for IPv4 and IPv6 at once.
const attempts = 64

// Reserve takes host ports for a container by binding sockets to them, so that the kernel itself tells what is free and
// keeps others out. It returns the ports with the host port filled in (HostPortEnd 0). The caller hands the files to the
// shim and closes its own. All or nothing. A port that the container has already (from before a restart of it) is kept as
// it is, without a file. A fixed port is shared by the containers of one group, each with sockets of its own; of a range
// each takes another.
// Errors: ErrPortInUse (a *PortInUseError), ErrUnsupported, EADDRNOTAVAIL for an address the host does not have.
func (m *Manager) Reserve(_ context.Context, h Holder, ports []Port) ([]Port, Reservation, error) {
	r := Reservation{ContainerID: h.ContainerID}
	out := slices.Clone(ports)
	m.mu.Lock()
	defer m.mu.Unlock()
	var claimed []hostPort
	fail := func(err error) ([]Port, Reservation, error) {
		for _, hp := range claimed {
			m.dropClaims(hp, m.claims[hp], h.ContainerID)
		}
		return nil, Reservation{}, errors.Join(err, r.Close())
	}
	for i, p := range out {
		if p.HostIP.IsValid() && p.HostIP.IsUnspecified() && p.HostIP.Is4() {
			// "0.0.0.0" in a stack file means IPv4 only.
			p.HostIP = netip.IPv4Unspecified()
		}
		bound, files, err := m.reserveOne(h, p)
		if err != nil {
			return fail(fmt.Errorf("publish port %d of %s: %w", p.Target, h.Name, err))
		}
		for _, f := range files {
			if f.six {
				forward := forward{file: len(r.Files), port: p.Target}
				if !bound.HostIP.IsValid() {
					forward.via = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.HostPort)
				}
				r.ipv6 = append(r.ipv6, forward)
			}
			r.Files = append(r.Files, f.file)
		}
		out[i] = bound
		for _, hp := range bound.occupies() {
			if !m.claims[hp].has(h) {
				claimed = append(claimed, hp)
				m.claims[hp] = append(m.claims[hp], claim{h.ContainerID, h.Name, h.Group})
			}
		}
	}
	return out, r, nil
}

// reserveOne binds the first free port of a range, or a random one. The caller holds m.mu.
func (m *Manager) reserveOne(h Holder, p Port) (Port, []boundFile, error) {
	if _, ok := socketKinds[p.Protocol]; !ok {
		return p, nil, fmt.Errorf("protocol %q: %w", p.Protocol, ErrUnsupported)
	}
	first, last := p.HostPort, max(p.HostPort, p.HostPortEnd)
	p.HostPortEnd = 0
	switch {
	case first == 0:
		return bindRandom(p)
	case first == last && h.Group != "":
		return m.reserveShared(h, p)
	}
	var firstErr error
	for port := int(first); port <= int(last); port++ {
		p.HostPort = uint16(port)
		files, _, err := bind(p.Protocol, p.HostIP, p.HostPort, exclusive)
		if err == nil {
			return p, files, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return p, nil, err
		}
		if m.claims[p.occupies()[0]].has(h) {
			return p, nil, nil
		}
		if firstErr == nil {
			firstErr = m.inUse(p)
		}
	}
	if first != last {
		firstErr = fmt.Errorf("every port from %d to %d: %w", first, last, firstErr)
	}
	return p, nil, firstErr
}

func bindRandom(p Port) (Port, []boundFile, error) {
	for range attempts {
		files, port, err := bind(p.Protocol, p.HostIP, 0, exclusive)
		if errors.Is(err, unix.EADDRINUSE) {
			continue // free for one family only
		}
		p.HostPort = port
		return p, files, err
	}
	return p, nil, fmt.Errorf("no port is free on every address: %w", ErrPortInUse)
}

// inUse finds out who has a port. The caller holds m.mu.
func (m *Manager) inUse(p Port) error {
	e := &PortInUseError{Protocol: p.Protocol, Host: netip.AddrPortFrom(p.HostIP, p.HostPort)}
	if !p.HostIP.IsValid() {
		e.Host = netip.AddrPortFrom(netip.IPv4Unspecified(), p.HostPort)
	}
	for hp, list := range m.claims {
		if hp.protocol == p.Protocol && hp.port == p.HostPort && overlapAddr(hp.addr, p.HostIP) {
			e.Container = list[0].name
			return e
		}
	}
	for _, h := range holders(p.Protocol, p.HostPort, unix.AF_INET, unix.AF_INET6) {
		if overlapAddr(h.addr, p.HostIP) {
			e.PID, e.Program = processOf(h.inode)
			if e.PID != 0 {
				break
			}
		}
	}
	return e
}

func overlapAddr(a, b netip.Addr) bool {
	wild := func(x netip.Addr) bool { return !x.IsValid() || x.IsUnspecified() }
	return wild(a) || wild(b) || a == b
}
