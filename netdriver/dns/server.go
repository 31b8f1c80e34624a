package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/netns"
)

// server is one container's name service.
type server struct {
	r     *Resolver
	netns string
	cfg   atomic.Pointer[Config]
	udp   net.PacketConn
	tcp   net.Listener
	conns chan struct{} // limits TCP connections
}

const (
	maxQuery   = 4096 // bytes of a request; longer ones are no requests
	tcpIdle    = 10 * time.Second
	tcpClients = 32
)

// buffers are taken for the moment in which there is something to read, so waiting costs none.
var buffers = sync.Pool{New: func() any { return new([maxQuery]byte) }}

// Serve answers a container's questions in the network namespace at netnsPath. Serving the same container again replaces
// its configuration. Stop ends it. unix.EADDRINUSE is wrapped when something in the namespace has the port.
func (r *Resolver) Serve(id, netnsPath string, cfg Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.servers[id]; s != nil {
		if s.netns == netnsPath {
			s.cfg.Store(&cfg)
			return nil
		}
		s.close()
		delete(r.servers, id)
	}
	s := &server{r: r, netns: netnsPath, conns: make(chan struct{}, tcpClients)}
	s.cfg.Store(&cfg)
	if err := netns.Do(netnsPath, s.listen); err != nil {
		return fmt.Errorf("name service of container %s: %w", id, err)
	}
	r.servers[id] = s
	go s.serveUDP()
	go s.serveTCP()
	return nil
}

// Stop ends a container's name service; one that is not served is no error.
func (r *Resolver) Stop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.servers[id]; s != nil {
		s.close()
		delete(r.servers, id)
	}
}

// Close stops all.
func (r *Resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.servers {
		s.close()
		delete(r.servers, id)
	}
	return nil
}

// listen opens the sockets; the thread is in the container's namespace.
func (s *server) listen() error {
	udp, err := socket(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer udp.Close() // the net package works on a duplicate
	tcp, err := socket(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer tcp.Close()
	if s.udp, err = net.FilePacketConn(udp); err != nil {
		return err
	}
	if s.tcp, err = net.FileListener(tcp); err != nil {
		return errors.Join(err, s.udp.Close())
	}
	return nil
}

func socket(kind int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "name service")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: Address.Addr().As4(), Port: Port}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind %s port %d: %w", Address.Addr(), Port, err), f.Close())
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, tcpClients); err != nil {
			return nil, errors.Join(fmt.Errorf("listen: %w", err), f.Close())
		}
	}
	return f, nil
}

func (s *server) close() {
	s.udp.Close()
	s.tcp.Close()
}

func (s *server) serveUDP() {
	raw, err := s.udp.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	// Returns when the socket is closed.
	_ = raw.Read(func(fd uintptr) bool {
		buf := buffers.Get().(*[maxQuery]byte)
		defer buffers.Put(buf)
		for {
			n, from, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_TRUNC)
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				return err != unix.EAGAIN && err != unix.ECONNREFUSED
			case n > len(buf):
				continue
			}
			s.handleUDP(int(fd), buf[:n], from)
		}
	})
}

func (s *server) handleUDP(fd int, msg []byte, from unix.Sockaddr) {
	reply, later := s.r.answer(msg, s.cfg.Load(), s.netns, false)
	if reply != nil {
		_ = unix.Sendto(fd, reply, unix.MSG_DONTWAIT, from) // a client that takes no answer has itself to blame
		return
	}
	if later == nil {
		return
	}
	select {
	case s.r.slots <- struct{}{}:
	default:
		return
	}
	to := addrOf(from)
	go func() {
		defer func() { <-s.r.slots }()
		if reply := later(); reply != nil {
			_, _ = s.udp.WriteTo(reply, to)
		}
	}()
}

func addrOf(sa unix.Sockaddr) net.Addr {
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return &net.UDPAddr{}
	}
	return &net.UDPAddr{IP: net.IP(in.Addr[:]), Port: in.Port}
}

func (s *server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		select {
		case s.conns <- struct{}{}:
			go func() {
				defer func() { <-s.conns }()
				s.handleTCP(conn)
			}()
		default:
			conn.Close()
		}
	}
}

// handleTCP answers the questions of one connection in their order.
func (s *server) handleTCP(conn net.Conn) {
	defer conn.Close()
	for {
		if conn.SetDeadline(time.Now().Add(tcpIdle)) != nil {
			return
		}
		msg, err := readTCP(conn)
		if err != nil {
			return
		}
		reply, later := s.r.answer(msg, s.cfg.Load(), s.netns, true)
		if later != nil {
			reply = later()
		}
		if reply == nil || conn.SetDeadline(time.Now().Add(tcpIdle)) != nil || writeTCP(conn, reply) != nil {
			return
		}
	}
}
