package netdriver_test

import (
	"net"
	"testing"

	"github.com/stack-run/stack/netdriver"
)

// TestConnectionsChangeUnderARunningContainer joins and leaves a network, exchanges a port and an alias, while a client of
// the container goes on.
func TestConnectionsChangeUnderARunningContainer(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	d.network(v4("m"))
	other := outside(t)
	d.group, d.service = "stack/web", "web"
	port := netdriver.Port{HostPort: 7500, Target: 81, Protocol: "tcp"}
	web := d.run("w", []string{"n"}, port)
	web.Do(t, func() error { return echo(t, "w", 81) })
	d.group, d.service = "", "neighbour"
	neighbour := d.run("x", []string{"m"})
	serve(t, neighbour.Namespace, "x", 80)
	var client net.Conn
	other.Do(t, func() (err error) {
		client, err = net.Dial("tcp", "203.0.113.1:7500")
		return err
	})
	defer client.Close()
	goesOn := func(after string) {
		t.Helper()
		if got := ask(t, client); got != "w" {
			t.Errorf("after %s the client is answered by %q", after, got)
		}
		if drift := must(d.ObserveSandboxes(ctx, []netdriver.Sandbox{web.sandbox})); len(drift) > 0 {
			t.Errorf("after %s: %q", after, drift)
		}
	}
	become := func(endpoints ...netdriver.Endpoint) {
		t.Helper()
		web.sandbox.Endpoints = must(d.Allocate(ctx, endpoints))
		must(d.Connect(ctx, []netdriver.Sandbox{web.sandbox}))
		if err := d.Publish(ctx, []netdriver.Sandbox{web.sandbox}); err != nil {
			t.Fatal(err)
		}
	}
	on := web.sandbox.Endpoints[0]
	goesOn("the start")

	become(on, netdriver.Endpoint{Network: "m", ContainerID: web.id, Container: "w", Names: []string{"w"}, Group: on.Group})
	goesOn("joining a network")
	if got, err := call(t, web.Namespace, "tcp", net.JoinHostPort(neighbour.addr4().String(), "80")); err != nil {
		t.Errorf("the network that was joined: %q, %v", got, err)
	}

	if err := d.Disconnect(ctx, []netdriver.Sandbox{{ContainerID: web.id, Netns: web.Path(), Endpoints: web.sandbox.Endpoints[1:]}}); err != nil {
		t.Fatal(err)
	}
	become(on)
	goesOn("leaving it")
	if got, err := call(t, web.Namespace, "tcp", net.JoinHostPort(neighbour.addr4().String(), "80")); err == nil {
		t.Errorf("the network that was left answers %q", got)
	}

	held, more, err := d.Reserve(ctx, netdriver.Holder{ContainerID: web.id, Name: "w", Group: on.Group}, []netdriver.Port{port, {HostPort: 7501, Target: 81, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	if len(more.Files) != 2 { // of the new port, one a family
		t.Errorf("%d files for one new port", len(more.Files))
	}
	on.Ports, on.Names = held[1:], []string{"w", "web", "alias"}
	become(on)
	goesOn("exchanging the port")
	if got, err := call(t, other, "tcp", "203.0.113.1:7500"); err == nil {
		t.Errorf("the port that was withdrawn answers %q", got)
	}
	var again net.Conn
	other.Do(t, func() (err error) {
		again, err = net.Dial("tcp", "203.0.113.1:7501")
		return err
	})
	defer again.Close()
	if got := ask(t, again); got != "w" {
		t.Errorf("the port that was added answers %q", got)
	}
	if got := d.resolve(d.nameService(), "alias"); got != "w" {
		t.Errorf("the alias that was added is %q", got)
	}
}
