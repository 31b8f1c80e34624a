package netdriver_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
)

func (c *container) vip4() netip.Addr { return c.sandbox.Endpoints[0].VIP4 }
func (c *container) vip6() netip.Addr { return c.sandbox.Endpoints[0].VIP6 }

// answered lists the virtual addresses that the bridge of a network has.
func answered(t *testing.T, n netdriver.Network) (out []string) {
	t.Helper()
	for _, a := range must(netlink.AddrList(must(netlink.LinkByName(n.Link)), netlink.FAMILY_ALL)) {
		if ones, all := a.Mask.Size(); ones == all {
			out = append(out, a.IP.String())
		}
	}
	slices.Sort(out)
	return out
}

func TestAVirtualAddressIsBalanced(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	d.network(bridged("m"))
	d.vip = true
	all := d.replicas([]string{"a", "b", "c"})
	vip4, vip6 := all[0].vip4(), all[0].vip6()
	for _, c := range all {
		if c.vip4() != vip4 || c.vip6() != vip6 || !vip4.Is4() || !vip6.Is6() {
			t.Errorf("%s has the virtual addresses %s and %s", c.id, c.vip4(), c.vip6())
		}
	}
	d.vip = false
	names := d.nameService()
	if got := d.resolve(names, "svc"); got != "vip" {
		t.Errorf("the service's name is %q", got)
	}
	if got := d.resolve(names, "b"); got != "b" {
		t.Errorf("the container's own name is %q", got)
	}
	d.group = ""
	client, stranger := d.run("client", []string{"n"}), d.run("stranger", []string{"m"})
	for _, a := range []string{net.JoinHostPort(vip4.String(), "80"), net.JoinHostPort(vip6.String(), "80")} {
		for who, from := range map[string]*drivertest.Namespace{"a container": client.Namespace, "one of the group": all[0].Namespace, "the host": nil} {
			for _, network := range []string{"tcp", "udp"} {
				if got := callers(t, from, network, a, 60); len(got) != 3 {
					t.Errorf("%s to %s over %s: %v", who, a, network, got)
				}
			}
		}
		if got, err := call(t, stranger.Namespace, "tcp", a); err == nil {
			t.Errorf("a container of another network is answered at %s: %q", a, got)
		}
	}
	if err := d.SetReadiness(ctx, map[string]netdriver.Readiness{"id-a": netdriver.Standby, "id-b": netdriver.Drained}); err != nil {
		t.Fatal(err)
	}
	if got := callers(t, client.Namespace, "tcp", net.JoinHostPort(vip4.String(), "80"), 20); words(got) != "c" {
		t.Errorf("when only one serves: %v", got)
	}
	restart(t, d)
	if got := callers(t, client.Namespace, "tcp", net.JoinHostPort(vip4.String(), "80"), 20); words(got) != "c" {
		t.Errorf("when only one serves, with a new daemon: %v", got)
	}
}

func TestNobodyBehindAVirtualAddress(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	d.vip = true
	web := d.replicas([]string{"a"})[0]
	d.vip, d.group = false, ""
	client := d.run("client", []string{"n"})
	serveHost(t, 7200)
	if err := d.SetReadiness(ctx, map[string]netdriver.Readiness{web.id: netdriver.Drained}); err != nil {
		t.Fatal(err)
	}
	for _, from := range []*drivertest.Namespace{client.Namespace, nil} {
		if got, err := call(t, from, "tcp", net.JoinHostPort(web.vip4().String(), "7200")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("answered by %q, %v", got, err)
		}
	}
}

func TestAVirtualAddressIsHeld(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	d.vip = true
	web := d.replicas([]string{"a"})[0]
	d.vip, d.group = false, ""
	client := d.run("client", []string{"n"})
	addrs := []string{net.JoinHostPort(web.vip4().String(), "80"), net.JoinHostPort(web.vip6().String(), "80")}
	if err := d.Hold(ctx, []string{web.id}, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, from := range []*drivertest.Namespace{client.Namespace, nil} {
		for _, a := range addrs {
			var timeout net.Error
			if got, err := call(t, from, "tcp", a); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("held, %s: %q, %v", a, got, err)
			}
		}
	}
	if err := d.Unhold(ctx, []string{web.id}); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		callers(t, client.Namespace, "tcp", a, 1)
	}
}

func TestAVirtualAddressIsTheGroupsToTheLast(t *testing.T) {
	d := newDaemon(t)
	n := d.network(v4("n", subnet("10.44.0.0/28")...)) // 13 addresses for containers
	ask := func(id, group string) (netdriver.Endpoint, error) {
		got, err := d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: id, Container: id, Group: group, WantVIP: true}})
		if err != nil {
			return netdriver.Endpoint{}, err
		}
		_, err = d.Connect(ctx, []netdriver.Sandbox{{ContainerID: id, Netns: drivertest.NewNamespace(t).Path(), Endpoints: got}})
		return got[0], err
	}
	first := must(ask("a1", "stack/a"))
	if again := must(ask("a2", "stack/a")); again.VIP4 != first.VIP4 {
		t.Errorf("one group has %s and %s", first.VIP4, again.VIP4)
	}
	other := must(ask("b1", "stack/b"))
	if got := answered(t, n); len(got) != 2 || other.VIP4 == first.VIP4 {
		t.Errorf("answered: %v", got)
	}
	seen := map[netip.Addr]string{first.VIP4: "a's", other.VIP4: "b's", first.IPv4.Addr(): "a1", other.IPv4.Addr(): "b1"}
	for i := 0; ; i++ {
		e, err := ask("x"+string(rune('a'+i)), "stack/x")
		if errors.Is(err, netdriver.ErrExhausted) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if who := seen[e.IPv4.Addr()]; who != "" {
			t.Fatalf("%s is given out again; it is %s", e.IPv4.Addr(), who)
		}
		if i == 0 && seen[e.VIP4] != "" {
			t.Fatalf("%s is given out again", e.VIP4)
		}
	}
	if _, err := d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: "s", IPv4: netip.PrefixFrom(first.VIP4, 28)}}); !errors.Is(err, netdriver.ErrInUse) || !strings.Contains(err.Error(), "stack/a") {
		t.Errorf("a static address that is a group's: %v", err)
	}
	drop := func(id string) {
		d.Disconnect(ctx, []netdriver.Sandbox{{ContainerID: id, Endpoints: []netdriver.Endpoint{{Network: "n"}}}})
		d.Release(id)
	}
	drop("a1")
	if got := answered(t, n); !slices.Contains(got, first.VIP4.String()) {
		t.Errorf("gone with the first of two: %v", got)
	}
	drop("a2")
	if got := answered(t, n); slices.Contains(got, first.VIP4.String()) {
		t.Errorf("left after the last of the group: %v", got)
	}
	if again := must(ask("a3", "stack/a")); again.VIP4 != first.VIP4 {
		t.Errorf("the group comes back with %s, had %s", again.VIP4, first.VIP4)
	}
	for _, e := range must(d.Inspect("n")).Endpoints { // a daemon that died before it gave anything back
		d.Disconnect(ctx, []netdriver.Sandbox{{ContainerID: e.ContainerID, Endpoints: []netdriver.Endpoint{e}}})
	}
	d.open()
	if err := d.Sweep(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if got := answered(t, n); len(got) > 0 {
		t.Errorf("left after a crash: %v", got)
	}
}

func TestAVirtualAddressComesBackWithTheBridge(t *testing.T) {
	d := newDaemon(t)
	n := d.network(bridged("n"))
	d.vip = true
	web := d.replicas([]string{"a"})[0]
	br := must(netlink.LinkByName(n.Link))
	for _, a := range must(netlink.AddrList(br, netlink.FAMILY_ALL)) {
		if ones, all := a.Mask.Size(); ones == all {
			if err := netlink.AddrDel(br, &a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if drift := must(d.Observe(ctx, "n")); len(drift) != 2 || !strings.Contains(drift[0]+drift[1], web.vip4().String()) {
		t.Errorf("drift %q", drift)
	}
	d.network(bridged("n"))
	if drift := must(d.Observe(ctx, "n")); len(drift) > 0 {
		t.Errorf("after the repair: %q", drift)
	}
	callers(t, nil, "tcp", net.JoinHostPort(web.vip4().String(), "80"), 1)
	callers(t, nil, "tcp", net.JoinHostPort(web.vip6().String(), "80"), 1)
}
