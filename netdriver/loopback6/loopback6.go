// Package loopback6 serves the clients of published ports that address translation cannot: programs on the host that
// connect to [::1] (the kernel has no route_localnet for IPv6), and IPv6 clients of containers that have only IPv4.
// It runs in the shim, on the sockets that hold the port anyway; whatever the kernel does translate never arrives here.
package loopback6

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Forward is one socket to serve: its place among the files of a netdriver.Reservation, and where clients are sent.
type Forward struct {
	File   int            `json:"file"`
	Target netip.AddrPort `json:"target"`
}

// ErrNotNeeded is returned for sockets of IPv4 or of other protocols: the kernel serves these.
var ErrNotNeeded = errors.New("served by address translation")

const (
	dialTimeout = 10 * time.Second
	// As conntrack keeps UDP flows.
	udpIdle    = 60 * time.Second
	udpClients = 256
	backlog    = 128
)

// Serve forwards what comes in on f, a bound IPv6 TCP or UDP socket, to target, until the result is closed. f stays the
// caller's, and open: it goes on holding the port.
func Serve(f *os.File, target netip.AddrPort) (io.Closer, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("forward to %s: %w", target, err)
	}
	var kind int
	ctlErr := raw.Control(func(fd uintptr) { kind, err = begin(int(fd)) })
	if err = errors.Join(ctlErr, err); err != nil {
		return nil, fmt.Errorf("forward to %s: %w", target, err)
	}
	if kind == unix.SOCK_STREAM {
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("forward to %s: %w", target, err)
		}
		go serveTCP(l, target)
		return l, nil
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("forward to %s: %w", target, err)
	}
	u := &udp{conn: c, target: target, flows: map[netip.AddrPort]net.Conn{}}
	go u.serve()
	return u, nil
}

// begin makes a reserved socket receive, and tells its type.
func begin(fd int) (int, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, err
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0, err
	}
	switch {
	case domain != unix.AF_INET6:
		return 0, ErrNotNeeded
	case protocol == unix.IPPROTO_TCP:
		if err := unix.Listen(fd, backlog); err != nil {
			return 0, err
		}
		// Its connections, closed, are not to keep the port from the next container. Set before, it would let others have the
		// port; who listens has it alone all the same.
		return unix.SOCK_STREAM, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	case protocol == unix.IPPROTO_UDP:
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if err == unix.ENOENT {
			err = nil
		}
		return unix.SOCK_DGRAM, err
	}
	return 0, ErrNotNeeded
}

func serveTCP(l net.Listener, target netip.AddrPort) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of files: let some close
			continue
		}
		go relay(client.(*net.TCPConn), target)
	}
}

// relay copies both ways (by splice, in the kernel) and passes half-closes on.
func relay(client *net.TCPConn, target netip.AddrPort) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", target.String(), dialTimeout)
	if err != nil {
		client.SetLinger(0) // as a closed port answers
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(server.(*net.TCPConn), client)
	}()
	copyHalf(client, server.(*net.TCPConn))
	<-done
}

func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// One direction broke: nothing sensible can follow in the other.
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

// udp forwards datagrams, with one socket towards the container for each client.
type udp struct {
	conn   net.PacketConn
	target netip.AddrPort

	mu    sync.Mutex
	flows map[netip.AddrPort]net.Conn
}

// Close implements io.Closer.
func (u *udp) Close() error {
	err := u.conn.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.flows {
		f.Close()
	}
	return err
}

// buffers are taken for the moment in which there is something to read, so waiting costs none.
var buffers = sync.Pool{New: func() any { return new([65536]byte) }}

// receive waits for a datagram and hands it to fn, which must not keep it. from is nil on a connected socket.
func receive(c syscall.Conn, fn func(msg []byte, from unix.Sockaddr)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var got error
	err = raw.Read(func(fd uintptr) bool {
		buf := buffers.Get().(*[65536]byte)
		defer buffers.Put(buf)
		n, from, err := unix.Recvfrom(int(fd), buf[:], 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if got = err; err == nil {
			fn(buf[:n], from)
		}
		return true
	})
	return errors.Join(err, got)
}

func (u *udp) serve() {
	for {
		err := receive(u.conn.(syscall.Conn), func(msg []byte, from unix.Sockaddr) {
			client, ok := from.(*unix.SockaddrInet6)
			if !ok {
				return
			}
			flow := u.flow(netip.AddrPortFrom(netip.AddrFrom16(client.Addr), uint16(client.Port)))
			if flow == nil || flow.SetDeadline(time.Now().Add(udpIdle)) != nil {
				return
			}
			_, _ = flow.Write(msg) // a container that does not listen shows as silence, as with translation
		})
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// flow finds or makes a client's socket; nil when there are too many.
func (u *udp) flow(client netip.AddrPort) net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[client]; f != nil {
		return f
	}
	if len(u.flows) >= udpClients {
		return nil
	}
	f, err := net.Dial("udp", u.target.String())
	if err != nil {
		return nil
	}
	u.flows[client] = f
	go u.answers(client, f)
	return f
}

// answers passes datagrams back until the flow has been idle.
func (u *udp) answers(client netip.AddrPort, f net.Conn) {
	defer func() {
		f.Close()
		u.mu.Lock()
		delete(u.flows, client)
		u.mu.Unlock()
	}()
	to := net.UDPAddrFromAddrPort(client)
	for {
		err := receive(f.(syscall.Conn), func(msg []byte, _ unix.Sockaddr) {
			_, _ = u.conn.WriteTo(msg, to)
		})
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) || f.SetDeadline(time.Now().Add(udpIdle)) != nil {
			return
		}
	}
}
