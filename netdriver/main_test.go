package netdriver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivers"
	"github.com/stack-run/stack/netdriver/drivertest"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

// daemon is a Manager with the folders it lives in; open again to play a restart.
type daemon struct {
	t    testing.TB
	opts netdriver.Options
	*netdriver.Manager
	// What the next containers are: the group, its name, how ready, with a virtual address.
	group     string
	readiness netdriver.Readiness
	vip       bool
	service   string
	netns     map[string]string // by container id: paths, as the containers' records have them
}

// daemons that are there; the host is clean when the last has gone. Tests that make some don't run in parallel.
var daemons int

func newDaemon(t testing.TB) *daemon {
	t.Helper()
	d := &daemon{t: t, opts: netdriver.Options{Root: t.TempDir(), RunDir: t.TempDir(), Logf: t.Logf}, service: "svc", netns: map[string]string{}}
	d.opts.Seed = d.opts.Root
	d.open()
	daemons++
	t.Cleanup(func() {
		for _, n := range d.List() {
			for _, e := range must(d.Inspect(n.Name)).Endpoints {
				d.Release(e.ContainerID)
			}
			if n.Driver == "bridge" {
				if err := d.Remove(context.Background(), n.Name); err != nil {
					t.Errorf("remove network %s: %v", n.Name, err)
				}
			}
		}
		if daemons--; daemons == 0 {
			noLeftovers(t)
		}
	})
	return d
}

func (d *daemon) open() {
	d.t.Helper()
	m, err := drivers.Open(d.opts)
	if err != nil {
		d.t.Fatal(err)
	}
	d.Manager = m
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (d *daemon) network(n netdriver.Network) netdriver.Network {
	d.t.Helper()
	got, _, err := d.Ensure(context.Background(), n)
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

func bridged(name string) netdriver.Network {
	return netdriver.Network{Name: name, Driver: "bridge", IPv4: true, IPv6: true}
}

// container is a sandbox with a name; it answers on TCP and UDP ports.
type container struct {
	*drivertest.Namespace
	id       string
	sandbox  netdriver.Sandbox
	daemon   *daemon
	reserved netdriver.Reservation
}

func (c *container) addr4() netip.Addr { return c.sandbox.Endpoints[0].IPv4.Addr() }
func (c *container) addr6() netip.Addr { return c.sandbox.Endpoints[0].IPv6.Addr() }

// run makes a container on networks with ports published, and a server in it that says its name.
func (d *daemon) run(name string, networks []string, ports ...netdriver.Port) *container {
	d.t.Helper()
	c, err := d.tryRun(name, networks, ports...)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *daemon) tryRun(name string, networks []string, ports ...netdriver.Port) (*container, error) {
	d.t.Helper()
	ctx := context.Background()
	c := &container{Namespace: drivertest.NewNamespace(d.t), id: "id-" + name, daemon: d}
	ports, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: c.id, Name: name, Group: d.group}, ports)
	if err != nil {
		return nil, err
	}
	c.reserved = held
	d.t.Cleanup(func() { held.Close() })
	var endpoints []netdriver.Endpoint
	for i, n := range networks {
		e := netdriver.Endpoint{Network: n, ContainerID: c.id, Container: name, Names: []string{name, d.service}, Gateway: i == 0, Group: d.group, Readiness: d.readiness, WantVIP: d.vip}
		if i == 0 {
			e.Ports = ports
		}
		endpoints = append(endpoints, e)
	}
	if endpoints, err = d.Allocate(ctx, endpoints); err != nil {
		return nil, err
	}
	d.netns[c.id] = c.Path()
	c.sandbox = netdriver.Sandbox{ContainerID: c.id, Netns: c.Path(), Endpoints: endpoints}
	if _, err := d.Connect(ctx, []netdriver.Sandbox{c.sandbox}); err != nil {
		return nil, err
	}
	if err := d.Publish(ctx, []netdriver.Sandbox{c.sandbox}); err != nil {
		return nil, err
	}
	d.t.Cleanup(func() {
		for _, err := range []error{d.Unpublish(ctx, []string{c.id}), d.Disconnect(ctx, []netdriver.Sandbox{c.sandbox})} {
			if err != nil {
				d.t.Errorf("stop %s: %v", name, err)
			}
		}
		d.Release(c.id)
	})
	return c, nil
}

// serve answers connections and datagrams on a port in a namespace: "<name> <client address>".
func serve(t testing.TB, in *drivertest.Namespace, name string, port int) {
	t.Helper()
	in.Do(t, func() error { return listen(t, name, port) })
}

// serveHost does the same on the host.
func serveHost(t testing.TB, port int) {
	t.Helper()
	if err := listen(t, "host", port); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB, name string, port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, host(c.RemoteAddr()))
			c.Close()
		}
	}()
	p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo([]byte(name+" "+host(from)), from)
		}
	}()
	return nil
}

func host(a net.Addr) string {
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap().String()
}

// call connects from a namespace and returns what the server says. in nil is the host.
func call(t testing.TB, in *drivertest.Namespace, network, addr string) (string, error) {
	t.Helper()
	var out string
	dial := func() error {
		c, err := net.DialTimeout(network, addr, reachTimeout)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(reachTimeout))
		if network == "udp" {
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			out = string(buf[:n])
			return err
		}
		b, err := io.ReadAll(c)
		out = string(b)
		return err
	}
	var err error
	if in == nil {
		err = dial()
	} else {
		in.Do(t, func() error { err = dial(); return nil })
	}
	return out, err
}

// reachTimeout bounds how long a packet that is dropped is waited for.
const reachTimeout = 700 * time.Millisecond

// noLeftovers checks that the host has no link, table or changed setting any more.
func noLeftovers(t testing.TB) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().Name != "lo" && l.Type() != "sit" && l.Attrs().Name != "uplink" {
			t.Errorf("link %s is left", l.Attrs().Name)
		}
	}
	drivertest.NoTables(t)
}

// outside is another host, on a link of the host called uplink: 203.0.113.1 and 2001:db8::1 here, .2 there.
func outside(t testing.TB) *drivertest.Namespace {
	t.Helper()
	return drivertest.Uplink(t, "uplink", "203.0.113.1/24", "203.0.113.2/24", "2001:db8::1/64", "2001:db8::2/64")
}

func deadline() time.Time { return time.Now().Add(reachTimeout) }
