package netdriver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/drivertest"
)

// replicas are containers of one group with servers that say their names, on network n.
func (d *daemon) replicas(names []string, ports ...netdriver.Port) (out []*container) {
	d.t.Helper()
	d.group = "stack/web"
	for _, name := range names {
		c := d.run(name, []string{"n"}, ports...)
		serve(d.t, c.Namespace, name, 80)
		out = append(out, c)
	}
	return out
}

// callers counts who answers so many calls.
func callers(t testing.TB, in *drivertest.Namespace, network, addr string, count int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range count {
		got, err := call(t, in, network, addr)
		if err != nil {
			t.Fatalf("%s %s: %v", network, addr, err)
		}
		name, _, _ := strings.Cut(got, " ")
		out[name]++
	}
	return out
}

func TestConnectionsAreBalancedOverTheGroup(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	other := outside(t)
	d.replicas([]string{"a", "b", "c"}, netdriver.Port{HostPort: 7100, Target: 80, Protocol: "tcp"},
		netdriver.Port{HostPort: 7101, Target: 80, Protocol: "udp"},
		netdriver.Port{HostPort: 7102, Target: 80, Protocol: "tcp", HostIP: netip.MustParseAddr("203.0.113.1")})
	d.group = ""
	client := d.run("client", []string{"n"})
	for situation, c := range map[string]struct {
		from          *drivertest.Namespace
		network, addr string
	}{
		"from outside":             {other, "tcp", "203.0.113.1:7100"},
		"from outside, IPv6":       {other, "tcp", "[2001:db8::1]:7100"},
		"from the host":            {nil, "tcp", "127.0.0.1:7100"},
		"from a container":         {client.Namespace, "tcp", "203.0.113.1:7100"},
		"published at one address": {other, "tcp", "203.0.113.1:7102"},
		"UDP":                      {other, "udp", "203.0.113.1:7101"},
	} {
		t.Run(situation, func(t *testing.T) {
			got := callers(t, c.from, c.network, c.addr, 60) // one of three is never met once in 10^10 times
			if len(got) != 3 {
				t.Errorf("answers: %v", got)
			}
		})
	}
}

func TestReadinessDecidesWhoIsCalled(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	other := outside(t)
	d.replicas([]string{"a", "b", "c"}, netdriver.Port{HostPort: 7110, Target: 80, Protocol: "tcp"})
	names := d.nameService()
	const standby, drained = netdriver.Standby, netdriver.Drained
	steps := []struct {
		change       map[string]netdriver.Readiness
		ports, names string // who answers
	}{
		{map[string]netdriver.Readiness{"id-a": standby}, "b c", "b c"},
		{map[string]netdriver.Readiness{"id-b": drained}, "c", "c"},
		{map[string]netdriver.Readiness{"id-c": drained}, "a", "a"},
		{map[string]netdriver.Readiness{"id-a": drained}, "", "a b c"},
		{map[string]netdriver.Readiness{"id-a": standby, "id-b": standby}, "a b", "a b"},
		{map[string]netdriver.Readiness{"id-c": netdriver.Serving, "id-unknown": standby}, "c", "c"},
		{map[string]netdriver.Readiness{"id-a": netdriver.Serving, "id-b": netdriver.Serving}, "a b c", "a b c"},
	}
	for _, restarted := range []bool{false, true} {
		for i, s := range steps {
			if err := d.SetReadiness(ctx, s.change); err != nil {
				t.Fatal(err)
			}
			if restarted {
				restart(t, d)
			}
			who := ""
			if s.ports != "" {
				who = words(callers(t, other, "tcp", "203.0.113.1:7110", 60))
			} else if got, err := call(t, other, "tcp", "203.0.113.1:7110"); err == nil {
				who = got
			}
			if who != s.ports {
				t.Errorf("step %d (restarted %v): %q answer, expected %q", i, restarted, who, s.ports)
			}
			if got := d.resolve(names, "svc"); got != s.names {
				t.Errorf("step %d (restarted %v): the service's name is %q, expected %q", i, restarted, got, s.names)
			}
			if got := d.resolve(names, "b"); got != "b" {
				t.Errorf("step %d: the container's own name is %q", i, got)
			}
		}
	}
}

func words(counts map[string]int) string {
	var out []string
	for name := range counts {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// nameService is a container on network n, alone in its group and by another name, in which names are asked for.
func (d *daemon) nameService() *net.Resolver {
	d.t.Helper()
	group := d.group
	d.group, d.service = "", "other"
	asker := d.run("asker", []string{"n"})
	d.group, d.service = group, "svc"
	server := dns.New(filepath.Join(d.opts.RunDir, "dns"))
	d.t.Cleanup(func() { server.Close() })
	if err := server.Serve("asker", asker.Path(), dns.Config{Networks: []string{"n"}}); err != nil {
		d.t.Fatal(err)
	}
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (c net.Conn, err error) {
		asker.Do(d.t, func() error { c, err = net.Dial(network, dns.Address.String()); return nil })
		return c, err
	}}
}

// resolve gives the names of the containers, or "vip", whose addresses a name stands for on network n.
func (d *daemon) resolve(r *net.Resolver, name string) string {
	d.t.Helper()
	byAddr := map[string]string{}
	for _, e := range must(d.Inspect("n")).Endpoints {
		byAddr[e.IPv4.Addr().String()] = e.Container
		if e.VIP4.IsValid() {
			byAddr[e.VIP4.String()] = "vip"
		}
	}
	counts := map[string]int{}
	addrs, err := r.LookupHost(ctx, name)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range addrs {
		if who := byAddr[a]; who != "" { // else its IPv6 address
			counts[who]++
		}
	}
	return words(counts)
}

// restart plays a new daemon that reads what the containers' records say.
func restart(t *testing.T, d *daemon) {
	t.Helper()
	var endpoints []netdriver.Endpoint
	live, connected := map[string]bool{}, map[string]string{}
	for _, e := range must(d.Inspect("n")).Endpoints {
		endpoints = append(endpoints, e)
		live[e.ContainerID], connected[e.ContainerID] = true, d.netns[e.ContainerID]
	}
	d.open()
	if err := d.Restore(endpoints, connected); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(ctx, live); err != nil {
		t.Fatal(err)
	}
}

func TestEstablishedConnectionsStay(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	other := outside(t)
	all := d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7120, Target: 81, Protocol: "tcp"}, netdriver.Port{HostPort: 7120, Target: 81, Protocol: "udp"})
	for _, c := range all {
		c.Do(t, func() error { return echo(t, c.id, 81) })
	}
	for _, network := range []string{"tcp", "udp"} {
		conns := map[string]net.Conn{}
		for len(conns) < 2 {
			var c net.Conn
			other.Do(t, func() (err error) {
				c, err = net.Dial(network, "203.0.113.1:7120")
				return err
			})
			defer c.Close()
			conns[ask(t, c)] = c
		}
		if err := d.SetReadiness(ctx, map[string]netdriver.Readiness{"id-a": netdriver.Drained}); err != nil {
			t.Fatal(err)
		}
		for id, c := range conns {
			if got := ask(t, c); got != id {
				t.Errorf("%s: the connection to %s is answered by %q", network, id, got)
			}
		}
		if err := d.SetReadiness(ctx, map[string]netdriver.Readiness{"id-a": netdriver.Serving}); err != nil {
			t.Fatal(err)
		}
	}
}

// echo answers each line of a connection, or datagram, with the name.
func echo(t *testing.T, name string, port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 100)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write([]byte(name))
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo([]byte(name), from)
		}
	}()
	return nil
}

func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(deadline())
	buf := make([]byte, 100)
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestOnlyTheGroupSharesAPort(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	ports := []netdriver.Port{{HostPort: 7130, Target: 80, Protocol: "tcp"}, {HostPort: 7130, Target: 80, Protocol: "udp"}}
	reserve := func(id, group string) (netdriver.Reservation, error) {
		_, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: id, Name: id, Group: group}, ports)
		t.Cleanup(func() { held.Close(); d.Release(id) })
		return held, err
	}
	first, err := reserve("first", "stack/web")
	if err != nil {
		t.Fatal(err)
	}
	second, err := reserve("second", "stack/web")
	if err != nil || len(second.Files) != len(first.Files) {
		t.Fatalf("another of the group: %d files, %v", len(second.Files), err)
	}
	var inUse *netdriver.PortInUseError
	if _, err := reserve("other", "stack/other"); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("another group: %v", err)
	}
	if _, err := reserve("alone", ""); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("a container without a group: %v", err)
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		if err := bindSharing(t, kind, 7130); err != unix.EADDRINUSE {
			t.Errorf("another program that asks to share: %v", err)
		}
	}
	if _, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: "second", Name: "second", Group: "stack/web"}, ports); err != nil || len(held.Files) > 0 {
		t.Errorf("reserved again by one that has it: %d files, %v", len(held.Files), err)
	}
	first.Close() // it bound first
	d.Release("first")
	if l, err := net.Listen("tcp", ":7130"); err == nil {
		l.Close()
		t.Error("the port is free though one of the group has it")
	}
	d.open() // a daemon that knows the claims from the records only
	e := netdriver.Endpoint{Network: "n", ContainerID: "second", Container: "second", Group: "stack/web", Ports: ports}
	if err := d.Restore([]netdriver.Endpoint{e}, map[string]string{"second": "/proc/self/ns/net"}); err != nil {
		t.Fatal(err)
	}
	if _, err := reserve("third", "stack/web"); err != nil {
		t.Errorf("one more of the group, with a new daemon: %v", err)
	}
	if _, err := reserve("other", "stack/other"); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("another group, with a new daemon: %v", err)
	}
}

// bindSharing binds a port as a program does that is ready to share it.
func bindSharing(t *testing.T, kind, port int) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			t.Fatal(err)
		}
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port})
}

func TestARangeGivesEachOfTheGroupItsOwn(t *testing.T) {
	d := newDaemon(t)
	seen := map[uint16]bool{}
	for _, id := range []string{"a", "b", "c"} {
		got, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: id, Name: id, Group: "stack/web"}, []netdriver.Port{{HostPort: 7140, HostPortEnd: 7142, Target: 80, Protocol: "tcp"}})
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		seen[got[0].HostPort] = true
	}
	if len(seen) != 3 {
		t.Errorf("ports %v", seen)
	}
}

func TestHeldConnectionsWaitForTheNextContainer(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	other := outside(t)
	d.group = "stack/web"
	old, port := d.run("old", []string{"n"}, netdriver.Port{HostPort: 7150, Target: 80, Protocol: "tcp"}), netdriver.Port{HostPort: 7150, Target: 80, Protocol: "tcp"}
	d.group = ""
	client := d.run("client", []string{"n"})
	if err := d.Hold(ctx, []string{old.id}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := d.Unpublish(ctx, []string{old.id}); err != nil {
		t.Fatal(err)
	}
	old.reserved.Close()
	answers := make(chan string, 3)
	for _, from := range []*drivertest.Namespace{other, client.Namespace, nil} {
		go func() {
			dial := func() error {
				c, err := net.DialTimeout("tcp", "203.0.113.1:7150", 20*time.Second)
				if err != nil {
					answers <- err.Error()
					return nil
				}
				defer c.Close()
				buf := make([]byte, 100)
				n, _ := c.Read(buf)
				answers <- string(buf[:n])
				return nil
			}
			if from == nil {
				dial()
			} else {
				from.Do(t, dial)
			}
		}()
	}
	for _, from := range []*drivertest.Namespace{other, client.Namespace, nil} {
		waitForSYN(t, from)
	}
	d.group = "stack/web"
	next := d.run("next", []string{"n"}, port)
	serve(t, next.Namespace, "next", 80)
	select {
	case got := <-answers:
		t.Fatalf("answered while held: %q", got)
	default:
	}
	if err := d.Unhold(ctx, []string{old.id}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := <-answers; !strings.HasPrefix(got, "next") {
			t.Errorf("a client that connected in the gap: %q", got)
		}
	}
}

// waitForSYN waits until a namespace has a connection in the making.
func waitForSYN(t *testing.T, in *drivertest.Namespace) {
	t.Helper()
	const synSent = 2
	for giveUp := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		found := false
		look := func() error {
			sockets, err := netlink.SocketDiagTCP(unix.AF_INET)
			for _, s := range sockets {
				found = found || s.State == synSent
			}
			return err
		}
		if in == nil {
			if err := look(); err != nil {
				t.Fatal(err)
			}
		} else {
			in.Do(t, look)
		}
		if found {
			return
		}
		if time.Now().After(giveUp) {
			t.Fatal("nobody connects")
		}
	}
}

func TestAHoldEndsByItself(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	web := d.replicas([]string{"a"}, netdriver.Port{HostPort: 7160, Target: 80, Protocol: "tcp"})[0]
	if err := d.Hold(ctx, []string{web.id}, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	d.open() // the daemon that could end it has gone
	start := time.Now()
	c, err := net.DialTimeout("tcp", "127.0.0.1:7160", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("connected after %s", took)
	}
}

func TestWhatOthersOfTheGroupServeIsNotHeld(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7170, Target: 80, Protocol: "tcp"})
	if err := d.Hold(ctx, []string{"id-a"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	callers(t, nil, "tcp", "127.0.0.1:7170", 20)
	if err := d.Hold(ctx, []string{"id-a", "id-b"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, nil, "tcp", "127.0.0.1:7170"); err == nil {
		t.Errorf("%q answers though all are held", got)
	}
	if err := d.Unhold(ctx, []string{"id-a", "id-b"}); err != nil {
		t.Fatal(err)
	}
	callers(t, nil, "tcp", "127.0.0.1:7170", 1)
}

func TestTheRulesCanBeRead(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7180, Target: 80, Protocol: "tcp"})
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "numgen random mod 64 map @shared-any4") || !strings.Contains(string(out), "tcp . 7180 . 0x0000003f") {
		t.Errorf("nft list ruleset: %v\n%s", err, out)
	}
}
