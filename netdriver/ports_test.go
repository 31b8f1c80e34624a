package netdriver_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stack-run/stack/netdriver"
)

func TestWhoHasThePort(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	l := must(net.Listen("tcp", "127.0.0.1:7001"))
	defer l.Close()
	l6 := must(net.Listen("tcp6", "[::]:7002"))
	defer l6.Close()
	u := must(net.ListenPacket("udp", "0.0.0.0:7003"))
	defer u.Close()
	d.run("first", []string{"n"}, netdriver.Port{HostPort: 7004, Target: 80, Protocol: "tcp"})
	cases := []struct {
		situation string
		port      netdriver.Port
		container string
		free      bool
	}{
		{situation: "a program has it on one address", port: netdriver.Port{HostPort: 7001, Protocol: "tcp"}},
		{situation: "a program has it on IPv6", port: netdriver.Port{HostPort: 7002, Protocol: "tcp"}},
		{situation: "a program has it for UDP", port: netdriver.Port{HostPort: 7003, Protocol: "udp"}},
		{situation: "same number, other protocol", port: netdriver.Port{HostPort: 7003, Protocol: "tcp"}, free: true},
		{situation: "same number, other address", port: netdriver.Port{HostPort: 7001, Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.2")}, free: true},
		{situation: "a container has it", port: netdriver.Port{HostPort: 7004, Protocol: "tcp"}, container: "first"},
		{situation: "a container has it on every address", port: netdriver.Port{HostPort: 7004, Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1")}, container: "first"},
		{situation: "first free of a range", port: netdriver.Port{HostPort: 7001, HostPortEnd: 7005, Protocol: "tcp"}, free: true},
		{situation: "range without a free one", port: netdriver.Port{HostPort: 7001, HostPortEnd: 7002, Protocol: "tcp"}},
		{situation: "any", port: netdriver.Port{Protocol: "udp"}, free: true},
	}
	for _, c := range cases {
		t.Run(c.situation, func(t *testing.T) {
			got, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: "second", Name: "second"}, []netdriver.Port{c.port})
			defer held.Close()
			defer d.Release("second")
			if c.free {
				if err != nil || got[0].HostPort == 0 || got[0].HostPortEnd != 0 || len(held.Files) == 0 {
					t.Errorf("%+v with %d files, %v", got, len(held.Files), err)
				}
				return
			}
			var inUse *netdriver.PortInUseError
			if !errors.Is(err, netdriver.ErrPortInUse) || !errors.As(err, &inUse) {
				t.Fatalf("%v is no PortInUseError", err)
			}
			if inUse.Container != c.container || c.container == "" && inUse.PID != os.Getpid() {
				t.Errorf("%v (%+v)", err, inUse)
			}
		})
	}
}

func TestReservedPortIsHeldWhileFilesAreOpen(t *testing.T) {
	d := newDaemon(t)
	ports := []netdriver.Port{{HostPort: 7010, Protocol: "tcp"}, {HostPort: 7010, Protocol: "udp"}}
	_, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: "c", Name: "c"}, ports)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", ":7010"); err == nil {
		l.Close()
		t.Error("another program gets the TCP port")
	}
	if p, err := net.ListenPacket("udp", ":7010"); err == nil {
		p.Close()
		t.Error("another program gets the UDP port")
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	d.Release("c")
	l, err := net.Listen("tcp", ":7010")
	if err != nil {
		t.Fatalf("after closing: %v", err)
	}
	l.Close()
}

func TestPortWithOnlyClosedConnectionsIsFree(t *testing.T) {
	d := newDaemon(t)
	for i, addr := range []string{"127.0.0.1:7011", "[::1]:7012"} {
		l := must(net.Listen("tcp", addr))
		accepted := make(chan net.Conn, 1)
		go func() { accepted <- must(l.Accept()) }()
		c := must(net.Dial("tcp", addr))
		server := <-accepted
		server.Close() // first to close: TIME_WAIT stays on the server's port
		buf := make([]byte, 1)
		c.Read(buf)
		c.Close()
		l.Close()
		for _, group := range []string{"", "stack/web"} {
			_, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: "c", Name: "c", Group: group}, []netdriver.Port{{HostPort: uint16(7011 + i), Protocol: "tcp"}})
			if err != nil {
				t.Errorf("after a connection to %s, group %q: %v", addr, group, err)
			}
			held.Close()
			d.Release("c")
		}
	}
}

func TestUDPFlowsFollowTheRules(t *testing.T) {
	d := newDaemon(t)
	other := outside(t)
	d.network(v4("n"))
	var conn net.Conn
	other.Do(t, func() (err error) {
		conn, err = net.Dial("udp", "203.0.113.1:7020")
		return err
	})
	defer conn.Close()
	ask := func() string {
		buf := make([]byte, 100)
		for range 2 { // the first may only fetch an earlier "port unreachable"
			conn.Write([]byte("hello"))
			conn.SetReadDeadline(deadline())
			if n, err := conn.Read(buf); err == nil {
				return string(buf[:n])
			}
		}
		return ""
	}
	if got := ask(); got != "" {
		t.Fatalf("before anything is published: %q", got)
	}
	first := d.run("first", []string{"n"}, netdriver.Port{HostPort: 7020, Target: 80, Protocol: "udp"})
	serve(t, first.Namespace, "first", 80)
	if got := ask(); !strings.HasPrefix(got, "first") {
		t.Errorf("a client that was there before: %q", got)
	}
	if err := d.Unpublish(ctx, []string{first.id}); err != nil {
		t.Fatal(err)
	}
	first.reserved.Close()
	d.Release(first.id)
	second := d.run("second", []string{"n"}, netdriver.Port{HostPort: 7020, Target: 80, Protocol: "udp"})
	serve(t, second.Namespace, "second", 80)
	if got := ask(); !strings.HasPrefix(got, "second") {
		t.Errorf("after the container was replaced: %q", got)
	}
}

func TestInternalNetworkPublishesNothing(t *testing.T) {
	d := newDaemon(t)
	n := v4("n")
	n.Internal = true
	d.network(n)
	web := d.run("web", []string{"n"}, netdriver.Port{HostPort: 7060, Target: 80, Protocol: "tcp"})
	serve(t, web.Namespace, "web", 80)
	if got, _ := call(t, nil, "tcp", "127.0.0.1:7060"); got != "" {
		t.Errorf("answers %q", got)
	}
	if got, err := call(t, nil, "tcp", net.JoinHostPort(web.addr4().String(), "80")); got == "" {
		t.Errorf("the host at the container's own address: %v", err)
	}
}
