package netdriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	nlns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/netns"
)

// TCP states, as sock_diag has them.
const (
	tcpEstablished = 1
	tcpSynRecv     = 3
	tcpFinWait1    = 4
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpListen      = 10
	tcpClosing     = 11
	tcpNewSynRecv  = 12
)

// busy are the states in which something has still to be sent or said. A connection that its server has closed, all of it
// received, is over whatever its client does (FIN_WAIT2, TIME_WAIT).
var busy = []uint8{tcpEstablished, tcpSynRecv, tcpNewSynRecv, tcpFinWait1, tcpCloseWait, tcpLastAck, tcpClosing}

// Connections counts the TCP connections that clients elsewhere have to servers in each container: by published ports, by
// virtual addresses, or straight from another container. A container that is gone has none. UDP has no connections.
//
// The containers' own sockets are counted, not the host's connection tracking: that keeps connections which are over, tells
// nothing of those that it did not translate, and announces only what began while somebody listened.
func (m *Manager) Connections(_ context.Context, containerIDs []string) (map[string]int, error) {
	out := map[string]int{}
	for _, id := range containerIDs {
		n, err := m.connections(id)
		if err != nil {
			return nil, fmt.Errorf("container %s: its connections: %w", id, err)
		}
		out[id] = n
	}
	return out, nil
}

func (m *Manager) connections(id string) (count int, err error) {
	s := m.sandbox(id)
	if s.Netns == "" {
		return 0, nil
	}
	err = netns.Do(s.Netns, func() (err error) { count, err = countConnections(s); return err })
	if isGone(err) {
		return 0, nil
	}
	return count, err
}

// isGone tells whether a network namespace could not be entered because its holder is not there any more.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

func (m *Manager) sandbox(id string) Sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.connected[id]
}

// countConnections looks at the sockets of the thread's network namespace.
func countConnections(s Sandbox) (int, error) {
	// A server may have stopped listening, as one does that is told to end.
	servers := map[uint16]bool{}
	for _, e := range s.Endpoints {
		for _, p := range e.Ports {
			servers[p.Target] = servers[p.Target] || p.Protocol == "tcp"
		}
	}
	var sockets []connection
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
		req.AddData(diagRequest{family, unix.IPPROTO_TCP})
		answers, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			return 0, err
		}
		for _, a := range answers {
			if c, ok := parseConnection(a); ok {
				sockets = append(sockets, c)
				servers[c.local.Port()] = servers[c.local.Port()] || c.state == tcpListen
			}
		}
	}
	count := 0
	for _, c := range sockets {
		own := c.remote.Addr().IsLoopback() || c.remote.Addr() == c.local.Addr()
		if slices.Contains(busy, c.state) && servers[c.local.Port()] && !own {
			count++
		}
	}
	return count, nil
}

type connection struct {
	state         uint8
	local, remote netip.AddrPort
}

// parseConnection reads struct inet_diag_msg.
func parseConnection(a []byte) (connection, bool) {
	if len(a) < diagAnswerLen {
		return connection{}, false
	}
	addr := func(b []byte) netip.Addr {
		if a[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16([16]byte(b[:16])).Unmap()
	}
	return connection{
		state:  a[1],
		local:  netip.AddrPortFrom(addr(a[8:]), binary.BigEndian.Uint16(a[4:])),
		remote: netip.AddrPortFrom(addr(a[24:]), binary.BigEndian.Uint16(a[6:])),
	}, true
}

// Multicast groups of sock_diag: sockets that are no more.
const (
	tcpDestroyed  = 1
	tcpDestroyed6 = 3
)

// glance is how often connections are counted again without word from the kernel, which tells of sockets that end but not of
// each state before.
const glance = 200 * time.Millisecond

// InFlight is how long a connection that the kernel has sent to a container may need to become a socket there: on a busy
// machine its first packet waits in queues between the namespaces. Changes of the rules do not reach it there.
const InFlight = 100 * time.Millisecond

// drained is how long a container must have had no connection: longer, since nobody waits for it.
const drained = 250 * time.Millisecond

// WaitDrained returns when no client elsewhere has a TCP connection to a server in the container any more, nor one on its
// way, or with the context's error. It wants a container that gets no new ones: see Drained.
func (m *Manager) WaitDrained(ctx context.Context, containerID string) error {
	s := m.sandbox(containerID)
	if s.Netns == "" {
		return ctx.Err()
	}
	f, err := os.Open(s.Netns)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("container %s: its network namespace: %w", containerID, err)
	}
	defer f.Close()
	events, err := nl.SubscribeAt(nlns.NsHandle(f.Fd()), nlns.None(), unix.NETLINK_INET_DIAG, tcpDestroyed, tcpDestroyed6)
	if err != nil {
		return fmt.Errorf("container %s: watch its sockets: %w", containerID, err)
	}
	defer events.Close()
	limit := unix.NsecToTimeval(glance.Nanoseconds())
	if err := events.SetReceiveTimeout(&limit); err != nil {
		return err
	}
	for last := time.Now(); ; { // that a connection may have been sent to it
		n, err := m.connections(containerID)
		if err != nil {
			return err
		}
		switch silence := time.Since(last); {
		case n > 0:
			last = time.Now()
		case silence >= drained:
			return nil
		default:
			select {
			case <-time.After(drained - silence):
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("container %s: %d connections are left: %w", containerID, n, err)
		}
		// Whatever it says, a count tells. Lost announcements (ENOBUFS) and none (EAGAIN) are no errors either.
		if _, _, err := events.Receive(); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("container %s: watch its sockets: %w", containerID, err)
		}
	}
}
