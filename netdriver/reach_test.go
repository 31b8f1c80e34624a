package netdriver_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/loopback6"
)

// serveIPv6 does the shim's part for a container's ports.
func serveIPv6(t *testing.T, c *container) {
	t.Helper()
	for _, f := range c.reserved.Forwards(c.sandbox.Endpoints[0]) {
		closer, err := loopback6.Serve(c.reserved.Files[f.File], f.Target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closer.Close() })
	}
}

func TestWhoReachesWhom(t *testing.T) {
	d := newDaemon(t)
	other := outside(t)
	serve(t, other, "outside", 80)
	d.network(bridged("front"))
	d.network(bridged("back"))
	four := bridged("four")
	four.IPv6 = false
	d.network(four)
	closed := bridged("closed")
	closed.Internal = true
	d.network(closed)

	both := func(hostPort uint16, ip string) []netdriver.Port {
		var addr netip.Addr
		if ip != "" {
			addr = netip.MustParseAddr(ip)
		}
		return []netdriver.Port{
			{HostIP: addr, HostPort: hostPort, Target: 80, Protocol: "tcp"},
			{HostIP: addr, HostPort: hostPort, Target: 80, Protocol: "udp"},
		}
	}
	web := d.run("web", []string{"front"}, append(both(8080, ""), both(8081, "203.0.113.1")...)...)
	db := d.run("db", []string{"front"}, both(8082, "127.0.0.1")...)
	api := d.run("api", []string{"back"})
	old := d.run("old", []string{"four"}, both(8083, "")...)
	vault := d.run("vault", []string{"closed"})
	safe := d.run("safe", []string{"closed"})
	two := d.run("two", []string{"front", "back"}, both(8084, "")...)
	for _, c := range []*container{web, db, api, old, vault, safe, two} {
		serve(t, c.Namespace, c.id, 80)
	}
	serveHost(t, 9000)
	// A container with the right to administer its network may try to leave an internal one by a route of its own.
	vault.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, four := range []bool{true, false} {
			route := &netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway(d, "closed", four).AsSlice()}
			if err := netlink.RouteAdd(route); err != nil {
				return err
			}
		}
		return nil
	})
	serveIPv6(t, web)
	serveIPv6(t, old)

	host := (*drivertest.Namespace)(nil)
	at := func(a netip.Addr, port string) string { return net.JoinHostPort(a.String(), port) }
	gw4, gw6 := gateway(d, "front", true), gateway(d, "front", false)
	cases := []struct {
		situation string
		from      *drivertest.Namespace
		to        string
		answer    string // its start; empty: no answer
	}{
		{"container to container on one network, IPv4", db.Namespace, at(web.addr4(), "80"), "id-web"},
		{"container to container on one network, IPv6", db.Namespace, at(web.addr6(), "80"), "id-web"},
		{"container to itself", web.Namespace, at(web.addr4(), "80"), "id-web"},
		{"host to container, IPv4", host, at(web.addr4(), "80"), "id-web"},
		{"host to container, IPv6", host, at(web.addr6(), "80"), "id-web"},
		{"container to another network, IPv4", api.Namespace, at(web.addr4(), "80"), ""},
		{"container to another network, IPv6", api.Namespace, at(web.addr6(), "80"), ""},
		{"container to outside, masqueraded, IPv4", web.Namespace, "203.0.113.2:80", "outside 203.0.113.1"},
		{"container to outside, masqueraded, IPv6", web.Namespace, "[2001:db8::2]:80", "outside 2001:db8::1"},
		{"outside to a container's own address, IPv4", other, at(web.addr4(), "80"), ""},
		{"outside to a container's own address, IPv6", other, at(web.addr6(), "80"), ""},

		{"outside to a published port, client address kept, IPv4", other, "203.0.113.1:8080", "id-web 203.0.113.2"},
		{"outside to a published port, client address kept, IPv6", other, "[2001:db8::1]:8080", "id-web 2001:db8::2"},
		{"outside to a port published at the host's address", other, "203.0.113.1:8081", "id-web"},
		{"outside to a port published at 127.0.0.1", other, "203.0.113.1:8082", ""},
		{"outside to an IPv4-only container, IPv4", other, "203.0.113.1:8083", "id-old 203.0.113.2"},
		{"outside to an IPv4-only container, IPv6", other, "[2001:db8::1]:8083", "id-old"},
		{"outside to a port nobody publishes", other, "203.0.113.1:8099", ""},

		{"host to a published port at 127.0.0.1", host, "127.0.0.1:8080", "id-web"},
		{"host to a published port at ::1", host, "[::1]:8080", "id-web"},
		{"host to a published port at its own address, IPv4", host, "203.0.113.1:8080", "id-web"},
		{"host to a published port at its own address, IPv6", host, "[2001:db8::1]:8080", "id-web"},
		{"host to a port published at 127.0.0.1 only", host, "127.0.0.1:8082", "id-db"},
		{"host to a port published at another address only", host, "127.0.0.1:8081", ""},
		{"host to an IPv4-only container at ::1", host, "[::1]:8083", "id-old"},

		{"container to a neighbour's published port by the gateway, IPv4", db.Namespace, at(gw4, "8080"), "id-web"},
		{"container to a neighbour's published port by the gateway, IPv6", db.Namespace, at(gw6, "8080"), "id-web"},
		{"container to its own published port (hairpin), IPv4", web.Namespace, "203.0.113.1:8080", "id-web"},
		{"container to its own published port (hairpin), IPv6", web.Namespace, "[2001:db8::1]:8080", "id-web"},
		{"container to another network's published port, IPv4", api.Namespace, "203.0.113.1:8080", "id-web"},
		{"container to another network's published port, IPv6", api.Namespace, "[2001:db8::1]:8080", "id-web"},
		{"container to a published port of a container that is on its network too", api.Namespace, "203.0.113.1:8084", "id-two"},
		{"container to a port published at the host's 127.0.0.1", web.Namespace, at(gw4, "8082"), ""},

		{"internal: container to container, IPv4", vault.Namespace, at(safe.addr4(), "80"), "id-safe"},
		{"internal: container to container, IPv6", vault.Namespace, at(safe.addr6(), "80"), "id-safe"},
		{"internal: host to container", host, at(vault.addr4(), "80"), "id-vault"},
		{"internal: container to outside", vault.Namespace, "203.0.113.2:80", ""},
		{"internal: container to outside, IPv6", vault.Namespace, "[2001:db8::2]:80", ""},
		{"internal: container to another network", vault.Namespace, at(web.addr4(), "80"), ""},
		{"internal: container to a published port", vault.Namespace, "203.0.113.1:8080", ""},
		{"internal: container to a program of the host by the gateway", vault.Namespace, at(gateway(d, "closed", true), "9000"), "host"},
		{"internal: container to a program of the host by another address", vault.Namespace, "203.0.113.1:9000", ""},
		{"container to a program of the host by the gateway", web.Namespace, at(gw4, "9000"), "host"},
		{"internal: outside to container", other, at(vault.addr4(), "80"), ""},
		{"internal: another network to container", web.Namespace, at(vault.addr4(), "80"), ""},
	}
	for _, c := range cases {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(c.situation+" "+network, func(t *testing.T) {
				t.Parallel()
				got, err := call(t, c.from, network, c.to)
				if c.answer == "" && got != "" {
					t.Errorf("%s answers %q, expected nothing", c.to, got)
				}
				if c.answer != "" && !strings.HasPrefix(got, c.answer) {
					t.Errorf("%s answers %q (%v), expected %q", c.to, got, err, c.answer)
				}
			})
		}
	}
}

func gateway(d *daemon, network string, four bool) netip.Addr {
	for _, s := range must(d.Get(network)).Subnets {
		if s.Gateway.Is4() == four {
			return s.Gateway
		}
	}
	return netip.Addr{}
}
