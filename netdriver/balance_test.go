package netdriver_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
func restart(t *testing.T, d *daemon, ended ...string) {
	t.Helper()
	var endpoints []netdriver.Endpoint
	live, connected := map[string]bool{}, map[string]string{}
	for _, e := range must(d.Inspect("n")).Endpoints {
		endpoints = append(endpoints, e)
		live[e.ContainerID], connected[e.ContainerID] = !slices.Contains(ended, e.ContainerID), d.netns[e.ContainerID]
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

func TestTheRulesCanBeRead(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7180, Target: 80, Protocol: "tcp"})
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "numgen random mod 64 map @shared-any4") || !strings.Contains(string(out), "tcp . 7180 . 0x0000003f") {
		t.Errorf("nft list ruleset: %v\n%s", err, out)
	}
}

// A daemon that is killed while it replaces a container leaves the hold behind: it ends with whoever serves the port under the
// next daemon, long before the kernel would end it.
func TestAHoldThatADaemonLeftEndsWithWhoServesUnderTheNext(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	other := outside(t)
	a := d.replicas([]string{"a"}, netdriver.Port{HostPort: 7160, Target: 80, Protocol: "tcp"})[0]
	ready := func(r netdriver.Readiness) {
		if err := d.SetReadiness(t.Context(), map[string]netdriver.Readiness{a.sandbox.ContainerID: r}); err != nil {
			t.Fatal(err)
		}
	}
	again := func() {
		restart(t, d, a.id)
		must(d.Connect(t.Context(), []netdriver.Sandbox{a.sandbox}))
		must(0, d.Publish(t.Context(), []netdriver.Sandbox{a.sandbox}))
	}
	for situation, after := range map[string]func(){
		"that was not replaced": func() { restart(t, d) },
		"that stands by, alone": func() { ready(netdriver.Standby); restart(t, d) },
		"that starts again":     again,
	} {
		ready(netdriver.Serving)
		if err := d.Hold(t.Context(), []string{a.sandbox.ContainerID}, time.Hour); err != nil {
			t.Fatal(err)
		}
		after()
		if got := callers(t, other, "tcp", "203.0.113.1:7160", 1); got["a"] != 1 {
			t.Errorf("a container %s: %v", situation, got)
		}
	}
}
