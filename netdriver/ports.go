package netdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// hostPort is what a published port occupies. An invalid address stands for every address of the host.
type hostPort struct {
	protocol string
	addr     netip.Addr
	port     uint16
}

type claim struct{ id, name string }

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
// it is, without a file. name is for messages.
// Errors: ErrPortInUse (a *PortInUseError), ErrUnsupported, EADDRNOTAVAIL for an address the host does not have.
func (m *Manager) Reserve(_ context.Context, containerID, name string, ports []Port) ([]Port, Reservation, error) {
	r := Reservation{ContainerID: containerID}
	out := slices.Clone(ports)
	m.mu.Lock()
	defer m.mu.Unlock()
	var claimed []hostPort
	fail := func(err error) ([]Port, Reservation, error) {
		for _, hp := range claimed {
			delete(m.claims, hp)
		}
		return nil, Reservation{}, errors.Join(err, r.Close())
	}
	for i, p := range out {
		if p.HostIP.IsValid() && p.HostIP.IsUnspecified() && p.HostIP.Is4() {
			// "0.0.0.0" in a stack file means IPv4 only.
			p.HostIP = netip.IPv4Unspecified()
		}
		bound, files, err := m.reserveOne(containerID, p)
		if err != nil {
			return fail(fmt.Errorf("publish port %d of %s: %w", p.Target, name, err))
		}
		for _, f := range files {
			if f.six {
				r.ipv6 = append(r.ipv6, forward{file: len(r.Files), port: p.Target})
			}
			r.Files = append(r.Files, f.file)
		}
		out[i] = bound
		for _, hp := range bound.occupies() {
			if _, ok := m.claims[hp]; !ok {
				claimed = append(claimed, hp)
			}
			m.claims[hp] = claim{containerID, name}
		}
	}
	return out, r, nil
}

// reserveOne binds the first free port of a range, or a random one. The caller holds m.mu.
func (m *Manager) reserveOne(containerID string, p Port) (Port, []boundFile, error) {
	if _, ok := socketKinds[p.Protocol]; !ok {
		return p, nil, fmt.Errorf("protocol %q: %w", p.Protocol, ErrUnsupported)
	}
	first, last := p.HostPort, max(p.HostPort, p.HostPortEnd)
	p.HostPortEnd = 0
	if first == 0 {
		for range attempts {
			files, port, err := bind(p.Protocol, p.HostIP, 0)
			if errors.Is(err, unix.EADDRINUSE) {
				continue // free for one family only
			}
			p.HostPort = port
			return p, files, err
		}
		return p, nil, fmt.Errorf("no port is free on every address: %w", ErrPortInUse)
	}
	var firstErr error
	for port := int(first); port <= int(last); port++ {
		p.HostPort = uint16(port)
		files, _, err := bind(p.Protocol, p.HostIP, p.HostPort)
		if err == nil {
			return p, files, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return p, nil, err
		}
		if c, ok := m.claims[p.occupies()[0]]; ok && c.id == containerID {
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

// inUse finds out who has a port. The caller holds m.mu.
func (m *Manager) inUse(p Port) error {
	e := &PortInUseError{Protocol: p.Protocol, Host: netip.AddrPortFrom(p.HostIP, p.HostPort)}
	if !p.HostIP.IsValid() {
		e.Host = netip.AddrPortFrom(netip.IPv4Unspecified(), p.HostPort)
	}
	for hp, c := range m.claims {
		if hp.protocol == p.Protocol && hp.port == p.HostPort && overlapAddr(hp.addr, p.HostIP) {
			e.Container = c.name
			return e
		}
	}
	for _, h := range holders(p.Protocol, p.HostPort) {
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

type boundFile struct {
	file *os.File
	six  bool
}

var socketKinds = map[string]struct{ kind, proto int }{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// bind binds a port on an address, or on all IPv4 and all IPv6 addresses; port 0 takes any that is free.
func bind(protocol string, addr netip.Addr, port uint16) (files []boundFile, got uint16, err error) {
	addrs := []netip.Addr{addr}
	if !addr.IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	defer func() {
		if err != nil {
			for _, f := range files {
				f.file.Close()
			}
			files = nil
		}
	}()
	for _, a := range addrs {
		fd, err := bindSocket(protocol, a, port)
		if !addr.IsValid() && a.Is6() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue // a host without IPv6
		}
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			continue // no program on this host can have the port either: the kernel lacks the protocol
		}
		if err != nil {
			return files, 0, err
		}
		files = append(files, boundFile{os.NewFile(uintptr(fd), fmt.Sprintf("%s %s", protocol, a)), a.Is6()})
		if port == 0 {
			if port, err = boundPort(fd); err != nil {
				return files, 0, err
			}
		}
	}
	if port == 0 {
		return files, 0, fmt.Errorf("protocol %s has no random ports on this host: %w", protocol, ErrUnsupported)
	}
	return files, port, nil
}

func bindSocket(protocol string, a netip.Addr, port uint16) (fd int, err error) {
	kind := socketKinds[protocol]
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if a.Is4() {
		sa.(*unix.SockaddrInet4).Addr = a.As4()
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
	}
	fd, err = unix.Socket(family, kind.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, kind.proto)
	if err != nil {
		return -1, fmt.Errorf("%s socket: %w", protocol, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if a.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, err
		}
	}
	if kind.kind == unix.SOCK_DGRAM {
		// A bound UDP socket receives; this one must not keep what it gets.
		drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]}); err != nil {
			return -1, fmt.Errorf("filter of udp socket: %w", err)
		}
	}
	err = unix.Bind(fd, sa)
	if err == unix.EADDRINUSE && protocol == "tcp" && onlyClosing(port) {
		// Connections of a program that has gone. SO_REUSEADDR is not set otherwise: it would let two programs that
		// both set it, and don't listen yet, have the port.
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("%s %s: %w", protocol, netip.AddrPortFrom(a, port), err)
	}
	return fd, nil
}

func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("bound port: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, fmt.Errorf("bound port: socket of unexpected family")
}
