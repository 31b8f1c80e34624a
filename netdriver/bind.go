package netdriver

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

type boundFile struct {
	file *os.File
	six  bool
}

var socketKinds = map[string]struct{ kind, proto int }{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// exclusive is the owner of sockets that share their port with none.
const exclusive = -1

// sharer is the owner given to the sockets of a group, by which alone the kernel lets sockets share a port. It is the
// group's own, from a range that no accounts are made in: a program that asks to share (SO_REUSEPORT) is kept out whoever
// runs it, as it is from a port that is not shared.
func (m *Manager) sharer(group string) int {
	sum := sha256.Sum256([]byte(m.opts.Seed + "\x00" + group))
	return 0x70000000 | int(binary.BigEndian.Uint32(sum[:])&0x0fffffff)
}

// reserveShared binds a fixed port that others of the group may have as well. The caller holds m.mu.
func (m *Manager) reserveShared(h Holder, p Port) (Port, []boundFile, error) {
	have := m.claims[p.occupies()[0]]
	if have.has(h) {
		files, _, err := bind(p.Protocol, p.HostIP, p.HostPort, exclusive)
		if errors.Is(err, unix.EADDRINUSE) {
			return p, nil, nil
		}
		for _, f := range files { // nobody has it any more
			f.file.Close()
		}
	}
	files, _, err := bind(p.Protocol, p.HostIP, p.HostPort, m.sharer(h.Group))
	switch {
	case err == nil:
		return p, files, nil
	case !errors.Is(err, unix.EADDRINUSE):
		return p, nil, err
	case have.shared(h):
		return p, nil, nil // bound by a daemon that did not share yet: the port is the group's as long as that container is there
	}
	return p, nil, m.inUse(p)
}

// bind binds a port on an address, or on all IPv4 and all IPv6 addresses; port 0 takes any that is free.
func bind(protocol string, addr netip.Addr, port uint16, owner int) (files []boundFile, got uint16, err error) {
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
		fd, err := bindSocket(protocol, a, port, owner)
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

func bindSocket(protocol string, a netip.Addr, port uint16, owner int) (fd int, err error) {
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
	if owner != exclusive {
		if err := share(fd, owner); err != nil {
			return -1, fmt.Errorf("share a %s port: %w", protocol, err)
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
	if err == unix.EADDRINUSE && protocol == "tcp" && onlyClosing(port, a.Is6()) {
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

// share lets other sockets of the owner have the same port.
func share(fd, owner int) error {
	// Inside a user namespace there may be no such owner: then the daemon's own account is who shares.
	if err := unix.Fchown(fd, owner, -1); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
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
