package netdriver_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

// damage is something that others do to a network with two containers on it.
type damage struct {
	do func(*ground) error
	// What is noticed: of the network, of the first container.
	network, container string
}

type ground struct {
	*daemon
	t      *testing.T
	net    netdriver.Network
	a, b   *container
	client *container
}

// newGround has two containers of a group with a virtual address and a published port, and one that calls them.
func newGround(t *testing.T) *ground {
	t.Helper()
	d := newDaemon(t)
	g := &ground{daemon: d, t: t, net: d.network(bridged("n"))}
	d.vip = true
	all := d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7400, Target: 80, Protocol: "tcp"})
	g.a, g.b = all[0], all[1]
	d.vip, d.group, d.service = false, "", "client"
	g.client = d.run("client", []string{"n"})
	return g
}

func (g *ground) sandboxes() []netdriver.Sandbox {
	return []netdriver.Sandbox{g.a.sandbox, g.b.sandbox, g.client.sandbox}
}

// works checks everything that the containers are there for.
func (g *ground) works(when string) {
	g.t.Helper()
	for _, addr := range []string{"127.0.0.1:7400", "[" + g.a.vip6().String() + "]:80", g.a.vip4().String() + ":80", g.a.addr4().String() + ":80", "[" + g.b.addr6().String() + "]:80"} {
		if got, err := call(g.t, nil, "tcp", addr); err != nil {
			g.t.Errorf("%s: the host to %s: %q, %v", when, addr, got, err)
		}
		if strings.HasPrefix(addr, "127") {
			continue
		}
		if got, err := call(g.t, g.client.Namespace, "tcp", addr); err != nil {
			g.t.Errorf("%s: a container to %s: %q, %v", when, addr, got, err)
		}
	}
	if drift := must(g.Observe(ctx, "n")); len(drift) > 0 {
		g.t.Errorf("%s: the network: %q", when, drift)
	}
	if drift := must(g.ObserveSandboxes(ctx, g.sandboxes())); len(drift) > 0 {
		g.t.Errorf("%s: the containers: %q", when, drift)
	}
}

// repair is what the reconciler does about drift.
func (g *ground) repair() {
	g.t.Helper()
	g.network(bridged("n"))
	if _, err := g.Connect(ctx, g.sandboxes()); err != nil {
		g.t.Fatal(err)
	}
	if err := g.Publish(ctx, g.sandboxes()); err != nil {
		g.t.Fatal(err)
	}
}

func nft(args ...string) error {
	return exec.Command("nft", args...).Run()
}

func (g *ground) table() string {
	c := must(nftables.New())
	for _, table := range must(c.ListTables()) {
		return table.Name
	}
	return ""
}

func (g *ground) port(c *container) netlink.Link {
	for _, l := range must(netlink.LinkList()) {
		if l.Type() == "veth" && l.Attrs().Name == g.portName(c) {
			return l
		}
	}
	g.t.Fatal("no link of the container's")
	return nil
}

// portName finds the host's end by the index that the container's end has of it.
func (g *ground) portName(c *container) (name string) {
	var peer int
	c.Do(g.t, func() error { peer = must(netlink.LinkByName("eth0")).Attrs().ParentIndex; return nil })
	return must(netlink.LinkByIndex(peer)).Attrs().Name
}

func (g *ground) inside(c *container, fn func(eth0 netlink.Link) error) error {
	var err error
	c.Do(g.t, func() error { err = fn(must(netlink.LinkByName("eth0"))); return nil })
	return err
}

var damages = map[string]damage{
	"the firewall was flushed": {func(*ground) error { return nft("flush", "ruleset") }, "nftables table", "does not lead|leads elsewhere"},
	"the table was deleted":    {func(g *ground) error { return nft("delete", "table", "inet", g.table()) }, "nftables table", "leads elsewhere"},
	"a rule was added":         {func(g *ground) error { return nft("insert", "rule", "inet", g.table(), "publish", "return") }, "other rules", ""},
	"a published port was removed": {func(g *ground) error {
		return nft("delete", "element", "inet", g.table(), "shared-any4", "{ tcp . 7400 . 0x00000005 }")
	}, "", "7400/tcp leads elsewhere"},
	"a published port was altered": {func(g *ground) error {
		e := "{ tcp . 7400 . 0x00000005 }"
		if err := nft("delete", "element", "inet", g.table(), "shared-any4", e); err != nil {
			return err
		}
		return nft("add", "element", "inet", g.table(), "shared-any4", "{ tcp . 7400 . 0x00000005 : 10.9.9.9 . 80 }")
	}, "", "7400/tcp leads elsewhere"},
	"forwarding was switched off": {func(*ground) error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644) }, "forwarding is off", ""},
	"the bridge is down":          {func(g *ground) error { return netlink.LinkSetDown(must(netlink.LinkByName(g.net.Link))) }, "is down", ""},
	"the bridge was deleted":      {func(g *ground) error { return netlink.LinkDel(must(netlink.LinkByName(g.net.Link))) }, "is missing", "not on the bridge"},
	"the bridge lost its address": {func(g *ground) error {
		br := must(netlink.LinkByName(g.net.Link))
		return netlink.AddrDel(br, &must(netlink.AddrList(br, netlink.FAMILY_V4))[0])
	}, "lacks its address", ""},
	"a setting of the bridge": {func(g *ground) error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/"+g.net.Link+"/route_localnet", []byte("0"), 0o644)
	}, "route_localnet is 0", ""},
	"a container's link was deleted":              {func(g *ground) error { return netlink.LinkDel(g.port(g.a)) }, "", "is missing"},
	"a container's link is down":                  {func(g *ground) error { return netlink.LinkSetDown(g.port(g.a)) }, "", "is down"},
	"a container's link was taken off the bridge": {func(g *ground) error { return netlink.LinkSetNoMaster(g.port(g.a)) }, "", "not on the bridge"},
	"a container's interface was deleted":         {func(g *ground) error { return g.inside(g.a, netlink.LinkDel) }, "", "is missing"},
	"a container's interface is down":             {func(g *ground) error { return g.inside(g.a, netlink.LinkSetDown) }, "", "is down"},
	"a container lost its address": {func(g *ground) error {
		return g.inside(g.a, func(l netlink.Link) error {
			return netlink.AddrDel(l, &must(netlink.AddrList(l, netlink.FAMILY_V4))[0])
		})
	}, "", "lacks its address"},
	"a container lost its route": {func(g *ground) error {
		return g.inside(g.a, func(l netlink.Link) error {
			for _, r := range must(netlink.RouteList(l, netlink.FAMILY_V4)) {
				if r.Gw != nil {
					return netlink.RouteDel(&r)
				}
			}
			return os.ErrNotExist
		})
	}, "", "lacks the default route"},
	"a container's name service is not redirected": {func(g *ground) error {
		return g.inside(g.a, func(netlink.Link) error { return nft("delete", "table", "ip", "stack-dns") })
	}, "", "name service"},
	"a container's names were removed": {func(g *ground) error {
		return os.Remove(filepath.Join(g.opts.RunDir, "dns", "n", "id-a.json"))
	}, "", "names"},
}

func TestDriftIsSeenAndRepaired(t *testing.T) {
	g := newGround(t)
	g.works("before")
	for situation, c := range damages {
		t.Run(situation, func(t *testing.T) {
			g := &ground{g.daemon, t, g.net, g.a, g.b, g.client}
			if err := c.do(g); err != nil {
				t.Fatal(err)
			}
			noticed := func(what, want string, words []string) {
				t.Helper()
				if text := strings.Join(words, "; "); want == "" && text != "" || want != "" && !containsOne(text, want) {
					t.Errorf("%s: noticed %q, expected %q", what, text, want)
				}
			}
			if c.network != "" || c.container != "" {
				noticed("the network", c.network, must(g.Observe(ctx, "n")))
				noticed("the container", c.container, must(g.ObserveSandboxes(ctx, g.sandboxes()))[g.a.id])
			}
			g.repair()
			g.works("after the repair")
		})
	}
}

func containsOne(text, alternatives string) bool {
	for want := range strings.SplitSeq(alternatives, "|") {
		if strings.Contains(text, want) {
			return true
		}
	}
	return false
}

// Somebody flushed the firewall, and before it is repaired one container of a group stops and another one becomes unhealthy:
// both must go through, and the repair publishes what is left.
func TestAContainerOfAGroupIsWithdrawnWhileTheWholeTableIsMissing(t *testing.T) {
	d := newDaemon(t)
	n := d.network(bridged("n"))
	other := outside(t)
	all := d.replicas([]string{"a", "b", "c"}, netdriver.Port{HostPort: 7150, Target: 80, Protocol: "tcp"})
	if err := nft("flush", "ruleset"); err != nil {
		t.Fatal(err)
	}
	if err := d.Unpublish(t.Context(), []string{all[0].id}); err != nil {
		t.Fatal(err)
	}
	if err := d.SetReadiness(t.Context(), map[string]netdriver.Readiness{all[2].id: netdriver.Standby}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Ensure(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got := callers(t, other, "tcp", "203.0.113.1:7150", 8); got["b"] != 8 {
		t.Errorf("after the repair %v answer, want b alone", got)
	}
}

// The kernel asks for a neighbour that is missing once a second, and so would find it long after it is back.
func TestTheHostKnowsAContainerThatIsBackAtOnce(t *testing.T) {
	g := newGround(t)
	bridge := must(netlink.LinkByName(g.net.Link))
	if err := netlink.LinkDel(g.port(g.a)); err != nil {
		t.Fatal(err)
	}
	ip := g.a.addr4().AsSlice()
	entry := func(state int) bool {
		for _, n := range must(netlink.NeighList(bridge.Attrs().Index, netlink.FAMILY_V4)) {
			if n.IP.Equal(ip) && n.State&state != 0 {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(10 * time.Second); !entry(netlink.NUD_INCOMPLETE); {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks for it")
		}
		call(t, nil, "tcp", g.a.addr4().String()+":80")
	}
	g.repair()
	if !entry(netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_REACHABLE) {
		t.Error("the host still asks for it")
	}
}
