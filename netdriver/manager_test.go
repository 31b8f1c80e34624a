package netdriver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
)

var ctx = context.Background()

func subnet(prefix string) []netdriver.Subnet {
	return []netdriver.Subnet{{Prefix: netip.MustParsePrefix(prefix)}}
}

func v4(name string, subnets ...netdriver.Subnet) netdriver.Network {
	return netdriver.Network{Name: name, Driver: "bridge", IPv4: true, Subnets: subnets}
}

func TestSubnetsAvoidWhatTheHostHas(t *testing.T) {
	d := newDaemon(t)
	outside := drivertest.Uplink(t, "uplink", "10.210.0.1/23", "10.210.1.254/23")
	_ = outside
	if got := d.network(v4("a")).Subnets[0]; got.Prefix.String() != "10.210.2.0/24" || got.Gateway.String() != "10.210.2.1" {
		t.Errorf("beside the host's own 10.210.0.0/23: %+v", got)
	}
	if got := d.network(v4("b")).Subnets[0].Prefix.String(); got != "10.210.3.0/24" {
		t.Errorf("second network: %s", got)
	}
	if err := d.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := d.network(v4("c")).Subnets[0].Prefix.String(); got != "10.210.2.0/24" {
		t.Errorf("after one was removed: %s", got)
	}
	another := newDaemon(t)
	if got := another.network(v4("a")).Subnets[0].Prefix.String(); got != "10.210.4.0/24" {
		t.Errorf("another daemon's network: %s", got)
	}
	uplink := must(netlink.LinkByName("uplink"))
	_, all, _ := net.ParseCIDR("10.192.0.0/10")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Dst: all, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	if got := d.network(v4("d")).Subnets[0].Prefix.String(); got != "172.30.0.0/24" {
		t.Errorf("where a route covers the first pool: %s", got)
	}
}

func TestNetworksThatCannotBeMade(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("have", subnet("10.50.0.0/16")...))
	drivertest.Uplink(t, "uplink", "10.60.0.1/24", "10.60.0.2/24")
	cases := []struct {
		situation string
		network   netdriver.Network
		want      error
	}{
		{"overlaps another network", v4("x", subnet("10.50.7.0/24")...), netdriver.ErrOverlap},
		{"overlaps the host's own", v4("x", subnet("10.60.0.0/16")...), netdriver.ErrOverlap},
		{"overlaps itself", v4("x", append(subnet("10.70.0.0/16"), subnet("10.70.1.0/24")...)...), netdriver.ErrOverlap},
		{"exists with another subnet", v4("have", subnet("10.51.0.0/16")...), netdriver.ErrConflict},
		{"IPv6 subnet without IPv6", v4("x", subnet("fd00:1::/64")...), netdriver.ErrUnsupported},
		{"unknown driver", netdriver.Network{Name: "x", Driver: "warp", IPv4: true}, netdriver.ErrUnsupported},
		{"a name that leads out of the folder", v4("../x"), netdriver.ErrUnsupported},
		{"no name", v4(""), netdriver.ErrUnsupported},
		{"subnet without room", v4("x", subnet("10.80.0.0/31")...), nil},
		{"gateway outside", v4("x", netdriver.Subnet{Prefix: netip.MustParsePrefix("10.80.0.0/24"), Gateway: netip.MustParseAddr("10.81.0.1")}), nil},
		{"range outside", v4("x", netdriver.Subnet{Prefix: netip.MustParsePrefix("10.80.0.0/24"), Range: netip.MustParsePrefix("10.81.0.0/25")}), nil},
	}
	for _, c := range cases {
		t.Run(c.situation, func(t *testing.T) {
			before := len(must(netlink.LinkList()))
			_, created, err := d.Ensure(ctx, c.network)
			if err == nil || created || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("created %v, error %v, expected %v", created, err, c.want)
			}
			if after := len(must(netlink.LinkList())); after != before {
				t.Errorf("%d links before, %d after", before, after)
			}
			if files := must(filepath.Glob(filepath.Join(d.opts.Root, "*"))); len(files) != 1 {
				t.Errorf("records: %v", files)
			}
		})
	}
}

func TestConflictNamesTheFields(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	want := v4("n")
	want.Internal, want.Options = true, map[string]string{"com.docker.network.driver.mtu": "1400"}
	_, _, err := d.Ensure(ctx, want)
	var conflict *netdriver.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("%v is no ConflictError", err)
	}
	fields := []string{}
	for _, f := range conflict.Fields {
		fields = append(fields, f.Field)
	}
	if !slices.Equal(fields, []string{"internal", "driver_opts.com.docker.network.driver.mtu"}) {
		t.Errorf("fields %v", fields)
	}
	if _, created, err := d.Ensure(ctx, v4("n")); created || err != nil {
		t.Errorf("the same network again: created %v, %v", created, err)
	}
}

func TestAddresses(t *testing.T) {
	d := newDaemon(t)
	s := netdriver.Subnet{
		Prefix: netip.MustParsePrefix("10.50.0.0/24"), Range: netip.MustParsePrefix("10.50.0.128/29"),
		Gateway: netip.MustParseAddr("10.50.0.129"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.50.0.130")},
	}
	d.network(v4("n", s))
	get := func(id string, static string) (string, error) {
		e := netdriver.Endpoint{Network: "n", ContainerID: id, Container: "name-" + id}
		if static != "" {
			e.IPv4, e.Static4 = netip.PrefixFrom(netip.MustParseAddr(static), 32), true
		}
		out, err := d.Allocate(ctx, []netdriver.Endpoint{e})
		if err != nil {
			return "", err
		}
		return out[0].IPv4.String() + " " + out[0].MAC + " " + out[0].Interface, nil
	}
	cases := []struct {
		situation, id, static, want string
		err                         error
	}{
		{situation: "first of the range", id: "a", want: "10.50.0.128/24 02:42:0a:32:00:80 eth0"},
		{situation: "asked again", id: "a", want: "10.50.0.128/24 02:42:0a:32:00:80 eth0"},
		{situation: "steps over gateway and auxiliary address", id: "b", want: "10.50.0.131/24 02:42:0a:32:00:83 eth0"},
		{situation: "static, outside of the range", id: "s", static: "10.50.0.7", want: "10.50.0.7/24 02:42:0a:32:00:07 eth0"},
		{situation: "static, taken", id: "t", static: "10.50.0.7", err: netdriver.ErrInUse},
		{situation: "static, the gateway", id: "t", static: "10.50.0.129", err: netdriver.ErrInUse},
		{situation: "static, in no subnet", id: "t", static: "10.51.0.7", err: netdriver.ErrUnsupported},
		{situation: "static, in the range", id: "t", static: "10.50.0.132", want: "10.50.0.132/24 02:42:0a:32:00:84 eth0"},
		{situation: "steps over a static one", id: "c", want: "10.50.0.133/24 02:42:0a:32:00:85 eth0"},
		{situation: "next", id: "d", want: "10.50.0.134/24 02:42:0a:32:00:86 eth0"},
		{situation: "last", id: "e", want: "10.50.0.135/24 02:42:0a:32:00:87 eth0"},
		{situation: "none left", id: "f", err: netdriver.ErrExhausted},
	}
	for _, c := range cases {
		got, err := get(c.id, c.static)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, expected %q, %v", c.situation, got, err, c.want, c.err)
		}
	}
	d.Release("b")
	if got, err := get("f", ""); err != nil || !strings.HasPrefix(got, "10.50.0.131/") {
		t.Errorf("after a release: %s, %v", got, err)
	}
	if _, err := get("g", ""); !errors.Is(err, netdriver.ErrExhausted) {
		t.Errorf("full again: %v", err)
	}
	if err := d.Remove(ctx, "n"); !errors.Is(err, netdriver.ErrInUse) || !strings.Contains(err.Error(), "name-a") {
		t.Errorf("remove a network with containers: %v", err)
	}
}

func TestAllocationIsAllOrNothing(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n", subnet("10.50.0.0/29")...))
	batch := make([]netdriver.Endpoint, 6)
	for i := range batch {
		batch[i] = netdriver.Endpoint{Network: "n", ContainerID: fmt.Sprint("c", i), Container: fmt.Sprint("c", i)}
	}
	if _, err := d.Allocate(ctx, batch); !errors.Is(err, netdriver.ErrExhausted) {
		t.Fatalf("6 of 5 addresses: %v", err)
	}
	if got := must(d.Inspect("n")).Endpoints; len(got) > 0 {
		t.Errorf("kept after the failure: %v", got)
	}
	if _, err := d.Allocate(ctx, batch[:5]); err != nil {
		t.Errorf("5 of 5 addresses: %v", err)
	}
}

func TestReleasedAddressIsReusedLate(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	seen := map[netip.Prefix]bool{}
	for i := range 10 {
		e := must(d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: fmt.Sprint(i)}}))[0]
		if seen[e.IPv4] {
			t.Errorf("%s is given out again at once", e.IPv4)
		}
		seen[e.IPv4] = true
		d.Release(e.ContainerID)
	}
}

func TestContainersOfANetworkWithoutICC(t *testing.T) {
	d := newDaemon(t)
	n := bridged("n")
	n.Options = map[string]string{"com.docker.network.bridge.enable_icc": "false"}
	d.network(n)
	a, b := d.run("a", []string{"n"}), d.run("b", []string{"n"}, netdriver.Port{HostPort: 7030, Target: 80, Protocol: "tcp"})
	serve(t, b.Namespace, "b", 80)
	if got, _ := call(t, a.Namespace, "tcp", net.JoinHostPort(b.addr4().String(), "80")); got != "" {
		t.Errorf("neighbour answers %q", got)
	}
	if got, err := call(t, nil, "tcp", "127.0.0.1:7030"); !strings.HasPrefix(got, "b") {
		t.Errorf("host: %q, %v", got, err)
	}
}

func TestNamesAreServedWhereContainersAreConnected(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	c := d.run("web", []string{"n"})
	b := must(os.ReadFile(filepath.Join(d.opts.RunDir, "dns", "n", c.id+".json")))
	for _, want := range []string{`"web"`, `"svc"`, c.addr4().String(), c.addr6().String()} {
		if !strings.Contains(string(b), want) {
			t.Errorf("record %s lacks %s", b, want)
		}
	}
	if err := d.Disconnect(ctx, []netdriver.Sandbox{c.sandbox}); err != nil {
		t.Fatal(err)
	}
	if has := must(filepath.Glob(filepath.Join(d.opts.RunDir, "dns", "n", "*"))); len(has) > 0 {
		t.Errorf("records after disconnecting: %v", has)
	}
}

func TestRulesAreWhatNftShows(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	d.run("web", []string{"n"}, netdriver.Port{HostPort: 7070, Target: 80, Protocol: "tcp"})
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"tcp . 7070 comment \"id-web\"", "dnat ip to meta l4proto . th dport map @any4", "iifname . oifname @intra accept"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nft does not show %q in\n%s", want, out)
		}
	}
}

func TestSandboxInAUserNamespace(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("n"))
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; read end")
	in, out := must(cmd.StdinPipe()), must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	out.Read(make([]byte, 10))
	e := must(d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: "u", Container: "u", Gateway: true}}))
	s := netdriver.Sandbox{ContainerID: "u", Netns: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), Endpoints: e}
	if _, err := d.Connect(ctx, []netdriver.Sandbox{s}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nsenter", "-t", fmt.Sprint(cmd.Process.Pid), "-n", "ip", "-6", "addr", "show", "dev", "eth0").CombinedOutput(); err != nil || !strings.Contains(string(out), e[0].IPv6.String()) {
		t.Errorf("%v: %s", err, out)
	}
	if err := d.Disconnect(ctx, []netdriver.Sandbox{s}); err != nil {
		t.Error(err)
	}
}

func TestContainerOnTwoNetworks(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("one"))
	d.network(v4("two"))
	a := d.run("a", []string{"one", "two"})
	b := d.run("b", []string{"two"})
	serve(t, b.Namespace, "b", 80)
	if e := a.sandbox.Endpoints; e[0].Interface != "eth0" || e[1].Interface != "eth1" || e[1].IPv6.IsValid() {
		t.Errorf("endpoints %+v", e)
	}
	if got, err := call(t, a.Namespace, "tcp", net.JoinHostPort(b.addr4().String(), "80")); !strings.HasPrefix(got, "b "+a.sandbox.Endpoints[1].IPv4.Addr().String()) {
		t.Errorf("over the second network: %q, %v", got, err)
	}
	// Leaving one network leaves the other alone.
	left := a.sandbox
	left.Endpoints = left.Endpoints[:1]
	if err := d.Disconnect(ctx, []netdriver.Sandbox{left}); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, a.Namespace, "tcp", net.JoinHostPort(b.addr4().String(), "80")); !strings.HasPrefix(got, "b") {
		t.Errorf("over the network that is left: %q, %v", got, err)
	}
}

func TestOptionsOfTheStackFile(t *testing.T) {
	d := newDaemon(t)
	n := v4("n")
	n.Options = map[string]string{
		"com.docker.network.bridge.name": "my-bridge", "com.docker.network.driver.mtu": "1400",
		"com.docker.network.container_iface_prefix": "lan", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
	}
	d.network(n)
	if l, err := netlink.LinkByName("my-bridge"); err != nil || l.Attrs().MTU != 1400 {
		t.Errorf("bridge: %v, %v", l, err)
	}
	e := must(d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: "m", Container: "m", MAC: "02:00:00:00:00:07"}}))
	if e[0].Interface != "lan0" || e[0].MAC != "02:00:00:00:00:07" {
		t.Errorf("endpoint %+v", e[0])
	}
	if a := d.HostBinding("n"); a.String() != "127.0.0.1" {
		t.Errorf("host binding %s", a)
	}
	ns := drivertest.NewNamespace(t)
	s := []netdriver.Sandbox{{ContainerID: "m", Netns: ns.Path(), Endpoints: e}}
	if _, err := d.Connect(ctx, s); err != nil {
		t.Fatal(err)
	}
	ns.Do(t, func() error {
		l, err := netlink.LinkByName("lan0")
		if err == nil && (l.Attrs().MTU != 1400 || l.Attrs().HardwareAddr.String() != "02:00:00:00:00:07") {
			err = fmt.Errorf("interface %+v", l.Attrs())
		}
		return err
	})
	for _, mac := range []string{"nonsense", "01:00:00:00:00:01"} {
		if _, err := d.Allocate(ctx, []netdriver.Endpoint{{Network: "n", ContainerID: "x", MAC: mac}}); !errors.Is(err, netdriver.ErrUnsupported) {
			t.Errorf("MAC %s: %v", mac, err)
		}
	}
}

func TestNothingIsLostRightAfterConnecting(t *testing.T) {
	d := newDaemon(t)
	d.network(bridged("both"))
	d.network(v4("four"))
	for _, network := range []string{"both", "four"} {
		server := d.run("server-"+network, []string{network})
		serve(t, server.Namespace, "server", 80)
		for i := range 6 {
			c := d.run(fmt.Sprint(network, i), []string{network})
			// A lost ARP request or neighbour solicitation would be sent again after a second: later than call waits.
			for _, a := range []netip.Addr{server.addr4(), server.addr6()} {
				if !a.IsValid() {
					continue
				}
				if got, err := call(t, c.Namespace, "tcp", net.JoinHostPort(a.String(), "80")); got == "" {
					t.Errorf("client %d to %s: %v", i, a, err)
				}
			}
		}
	}
}
