package netdriver_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
)

// from connects by a port of the client's choice, at once again after the connection before.
func from(t *testing.T, client *drivertest.Namespace, port int, addr string) (net.Conn, error) {
	t.Helper()
	dialer := net.Dialer{Timeout: reachTimeout, LocalAddr: &net.TCPAddr{Port: port}, Control: func(_, _ string, c syscall.RawConn) error {
		return option(c, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	}}
	var conn net.Conn
	var err error
	client.Do(t, func() error {
		conn, err = dialer.DialContext(t.Context(), "tcp", addr)
		return nil
	})
	return conn, err
}

func option(c syscall.RawConn, level, name int) error {
	var err error
	if ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, 1) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// vanish ends a connection without a word to anybody, so that the kernel between client and container tracks it on.
func vanish(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = option(raw, unix.IPPROTO_TCP, unix.TCP_REPAIR)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A client comes back by the port of a connection that had not quite ended when its container went: it reaches the next one.
func TestAClientThatComesBackByTheSamePortReachesTheNextContainer(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	other := outside(t)
	client := d.run("client", []string{"n"})
	stop := func(web *container) error {
		return errors.Join(d.Unpublish(ctx, []string{web.id}), d.Disconnect(ctx, []netdriver.Sandbox{web.sandbox}))
	}
	for i, c := range []struct {
		situation string
		client    *drivertest.Namespace
		addr      string // empty: the virtual one
		end       func(web *container) error
	}{
		{"a published port", other, "203.0.113.1:7170", stop},
		{"a published port, over IPv6", other, "[2001:db8::1]:7170", stop},
		{"a virtual address", client.Namespace, "", stop},
		{"a published port, of a container that ended while no daemon ran", other, "203.0.113.1:7170", func(web *container) error { restart(t, d, web.id); return nil }},
	} {
		t.Run(c.situation, func(t *testing.T) {
			defer func(before testing.TB) { d.t, d.group, d.vip = before, "", false }(d.t)
			d.t, d.group, d.vip = t, "stack/web", true
			var ports []netdriver.Port
			if c.addr != "" {
				ports = []netdriver.Port{{HostPort: 7170, Target: 80, Protocol: "tcp"}}
			}
			run := func(name string) *container {
				web := d.run(name, []string{"n"}, ports...)
				web.Do(t, func() error { return echo(t, name, 80) })
				return web
			}
			old := run("old")
			if c.addr == "" {
				c.addr = netip.AddrPortFrom(old.vip4(), 80).String()
			}
			conn, err := from(t, c.client, 30000+i, c.addr)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn); got != "old" {
				t.Fatalf("answered by %q", got)
			}
			vanish(t, conn)
			if err := c.end(old); err != nil {
				t.Fatal(err)
			}
			run("next")
			if conn, err = from(t, c.client, 30000+i, c.addr); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := ask(t, conn); got != "next" {
				t.Errorf("answered by %q", got)
			}
		})
	}
}

// A container that ends resets connections that have something unread. What their clients still had under way is what the
// kernel saw last of them, and keeps it from beginning anew.
func TestAClientWhoseConnectionWasResetReachesTheNextContainer(t *testing.T) {
	const port = 30200
	d := newDaemon(t)
	d.network(bridged("n"))
	other := outside(t)
	d.group = "stack/web"
	published := netdriver.Port{HostPort: 7172, Target: 80, Protocol: "tcp"}
	old := d.run("old", []string{"n"}, published)
	var server net.Listener
	old.Do(t, func() (err error) { server, err = net.Listen("tcp", ":80"); return err })
	defer server.Close()
	conn, err := from(t, other, port, "203.0.113.1:7172")
	if err != nil {
		t.Fatal(err)
	}
	deafen(t, conn)
	accepted := must(server.Accept())
	if err := accepted.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	const closed = 8
	waitUntil(t, "the connection was reset", func() bool { return tracked(t, port) == closed })
	old.Do(t, func() error { return netlink.LinkSetDown(must(netlink.LinkByName("eth0"))) })
	if _, err := conn.Write([]byte("under way")); err != nil {
		t.Fatal(err)
	}
	vanish(t, conn)
	if err := errors.Join(d.Unpublish(ctx, []string{old.id}), d.Disconnect(ctx, []netdriver.Sandbox{old.sandbox})); err != nil {
		t.Fatal(err)
	}
	next := d.run("next", []string{"n"}, published)
	next.Do(t, func() error { return echo(t, "next", 80) })
	if conn, err = from(t, other, port, "203.0.113.1:7172"); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := ask(t, conn); got != "next" {
		t.Errorf("answered by %q", got)
	}
}

// deafen lets nothing more through to a connection's end here.
func deafen(t *testing.T, c net.Conn) {
	t.Helper()
	raw := must(c.(*net.TCPConn).SyscallConn())
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	if err := errors.Join(ctlErr, err); err != nil {
		t.Fatal(err)
	}
}

// Who comes back by the port of a connection that is over begins anew, at any container. The kernel names both by that port:
// to forget the old one may hit the new one, whose packets would go to another container in mid-sentence.
func TestConnectionsThatAreOverAreNotForgottenWithTheirContainer(t *testing.T) {
	const port = 30100
	d := newDaemon(t)
	d.network(bridged("n"))
	other := outside(t)
	web := d.run("web", []string{"n"}, netdriver.Port{HostPort: 7171, Target: 80, Protocol: "tcp"})
	web.Do(t, func() error { return echo(t, "web", 80) })
	conn, err := from(t, other, port, "203.0.113.1:7171")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn)
	conn.Close()
	const timeWait = 7
	waitUntil(t, "the connection is over", func() bool { return tracked(t, port) == timeWait })
	if err := d.Unpublish(ctx, []string{web.id}); err != nil {
		t.Fatal(err)
	}
	if state := tracked(t, port); state != timeWait {
		t.Errorf("the kernel has the connection in state %d", state)
	}
}

// tracked is the state of the connection that the kernel tracks from a client's port; 0 when there is none.
func tracked(t *testing.T, port uint16) uint8 {
	t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	for _, flow := range flows {
		if tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP); ok && flow.Forward.SrcPort == port {
			return tcp.State
		}
	}
	return 0
}
