package firewall_test

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/firewall"
)

func mapping(proto, host, target string) firewall.Mapping {
	m := firewall.Mapping{Protocol: proto, Target: netip.MustParseAddrPort(target), Owner: "owner"}
	if host[0] == ':' {
		m.Host = netip.AddrPortFrom(netip.Addr{}, netip.MustParseAddrPort("0.0.0.0"+host).Port())
	} else {
		m.Host = netip.MustParseAddrPort(host)
	}
	return m
}

func table(t *testing.T) *firewall.Table {
	t.Helper()
	tab := firewall.Open("test")
	if err := tab.AddNetworks(firewall.Network{Link: "br0", Masquerade4: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Drop(); err != nil {
			t.Error(err)
		}
		drivertest.NoTables(t)
	})
	return tab
}

func listed(t *testing.T, tab *firewall.Table, want ...firewall.Mapping) {
	t.Helper()
	got, err := tab.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%+v is missing from %+v", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d mappings listed, expected %d: %+v", len(got), len(want), got)
	}
}

func TestMappingsAreListedAsTheyWereMade(t *testing.T) {
	tab := table(t)
	all := []firewall.Mapping{
		mapping("tcp", ":80", "10.0.0.2:8080"), mapping("udp", ":80", "10.0.0.2:8080"), mapping("sctp", ":80", "10.0.0.2:8080"),
		mapping("tcp", ":80", "[fd00::2]:8080"), mapping("tcp", "127.0.0.1:81", "10.0.0.2:8080"),
		mapping("tcp", "127.0.0.2:81", "10.0.0.3:8080"), mapping("udp", "[fd00::1]:81", "[fd00::2]:65535"),
	}
	if err := tab.Map(all, nil); err != nil {
		t.Fatal(err)
	}
	listed(t, tab, all...)
	if err := tab.Map(nil, all[:3]); err != nil {
		t.Fatal(err)
	}
	listed(t, tab, all[3:]...)
}

func TestMappingsThatAreNotWhatWeThought(t *testing.T) {
	tab := table(t)
	old, next := mapping("tcp", ":80", "10.0.0.2:80"), mapping("tcp", ":80", "10.0.0.3:80")
	other := mapping("tcp", ":81", "10.0.0.2:80")
	steps := []struct {
		situation   string
		add, remove []firewall.Mapping
		want        []firewall.Mapping
	}{
		{"removing what is not there", nil, []firewall.Mapping{old}, nil},
		{"adding", []firewall.Mapping{old}, nil, []firewall.Mapping{old}},
		{"adding again", []firewall.Mapping{old}, nil, []firewall.Mapping{old}},
		{"replacing", []firewall.Mapping{next}, []firewall.Mapping{old}, []firewall.Mapping{next}},
		{"adding over another target", []firewall.Mapping{old, other}, nil, []firewall.Mapping{old, other}},
		{"removing with one that is not there", nil, []firewall.Mapping{old, other, mapping("tcp", ":99", "10.0.0.9:1")}, nil},
	}
	for _, s := range steps {
		if err := tab.Map(s.add, s.remove); err != nil {
			t.Fatalf("%s: %v", s.situation, err)
		}
		listed(t, tab, s.want...)
	}
}

func TestMappingsThatCannotBe(t *testing.T) {
	tab := table(t)
	for situation, m := range map[string]firewall.Mapping{
		"unknown protocol":   mapping("icmp", ":80", "10.0.0.2:80"),
		"IPv4 to IPv6":       mapping("tcp", "127.0.0.1:80", "[fd00::2]:80"),
		"IPv6 to IPv4":       mapping("tcp", "[::1]:80", "10.0.0.2:80"),
		"one bad among good": mapping("icmp", ":81", "10.0.0.2:80"),
	} {
		if err := tab.Map([]firewall.Mapping{mapping("tcp", ":82", "10.0.0.2:80"), m}, nil); err == nil {
			t.Errorf("%s: accepted", situation)
		}
	}
	listed(t, tab)
}

func TestNewerRulesKeepPublishedPorts(t *testing.T) {
	tab := table(t)
	m := mapping("tcp", ":80", "10.0.0.2:80")
	if err := tab.Map([]firewall.Mapping{m}, nil); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		table := &nftables.Table{Name: tab.Name(), Family: nftables.TableFamilyINet}
		n := 0
		for _, chain := range []string{"publish", "forward", "postrouting", "prerouting", "output", "input", "raw"} {
			rules, err := c.GetRules(table, &nftables.Chain{Name: chain, Table: table})
			if err != nil {
				t.Fatal(err)
			}
			n += len(rules)
		}
		return n
	}
	before := count()
	// As a daemon with other rules left it: without this one's mark, with a rule more.
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	kernel := &nftables.Table{Name: tab.Name(), Family: nftables.TableFamilyINet}
	sets, err := c.GetSets(kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range sets {
		if strings.HasPrefix(set.Name, "rules-") {
			c.DelSet(set)
		}
	}
	c.AddSet(&nftables.Set{Table: kernel, Name: "rules-0", KeyType: nftables.TypeIFName}, nil)
	c.AddRule(&nftables.Rule{Table: kernel, Chain: &nftables.Chain{Name: "forward", Table: kernel}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	again := firewall.Open("test")
	if err := again.AddNetworks(firewall.Network{Link: "br0", Masquerade4: true}); err != nil {
		t.Fatal(err)
	}
	if after := count(); after != before {
		t.Errorf("%d rules before, %d after", before, after)
	}
	listed(t, again, m)
}

func TestNetworksComeAndGo(t *testing.T) {
	tab := firewall.Open("test")
	first := firewall.Network{Link: "br0", Masquerade4: true}
	second := firewall.Network{Link: "br1", Internal: true}
	if err := tab.AddNetworks(first, second); err != nil {
		t.Fatal(err)
	}
	if err := tab.AddNetworks(firewall.Network{Link: "br0", Masquerade4: true, Masquerade6: true}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []firewall.Network{{Link: "br0", Masquerade4: true, Masquerade6: true}, second} {
		if drift, err := tab.Observe(n); err != nil || len(drift) > 0 {
			t.Errorf("%s: %q, %v", n.Link, drift, err)
		}
	}
	if drift, _ := tab.Observe(firewall.Network{Link: "br1"}); len(drift) == 0 {
		t.Error("an internal network passes for an open one")
	}
	if err := tab.RemoveNetworks("br0", "never"); err != nil {
		t.Fatal(err)
	}
	if present, err := tab.Present(); err != nil || !present {
		t.Errorf("present %v, %v with a network left", present, err)
	}
	if err := tab.RemoveNetworks("br1"); err != nil {
		t.Fatal(err)
	}
	if err := tab.RemoveNetworks("br1"); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	drivertest.NoTables(t)
}

func TestAlteredRulesAreSeenAndMended(t *testing.T) {
	n := firewall.Network{Link: "br0", Masquerade4: true, Virtual: []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::9")}}
	tab := table(t)
	again := func() *firewall.Table { return firewall.Open("test") } // a daemon that has not made it
	for situation, damage := range map[string]string{
		"a rule was added":               "insert rule inet stack-test forward accept",
		"rules were removed":             "flush chain inet stack-test prerouting",
		"a policy was changed":           "chain inet stack-test forward { policy drop; }",
		"a chain was added":              "add chain inet stack-test stray { type filter hook forward priority 5; policy drop; }",
		"a chain was made another":       "flush chain inet stack-test forward; delete chain inet stack-test forward; add chain inet stack-test forward { type filter hook input priority 7; }",
		"the bridge was taken out":       `delete element inet stack-test bridges { "br0" }`,
		"the bridge is closed to itself": `delete element inet stack-test intra { "br0" . "br0" }`,
		"no way out":                     `delete element inet stack-test masquerade4 { "br0" }`,
		"a virtual address was removed":  "delete element inet stack-test answered4 { 10.0.0.9 }",
		"the table was removed":          "delete table inet stack-test",
	} {
		t.Run(situation, func(t *testing.T) {
			if err := tab.AddNetworks(n); err != nil {
				t.Fatal(err)
			}
			if drift, err := again().Observe(n); err != nil || len(drift) > 0 {
				t.Fatalf("before: %q, %v", drift, err)
			}
			if out, err := exec.Command("nft", damage).CombinedOutput(); err != nil {
				t.Fatalf("nft %s: %s", damage, out)
			}
			if drift, err := tab.Observe(n); err != nil || len(drift) == 0 {
				t.Errorf("not noticed: %q, %v", drift, err)
			}
			if err := tab.AddNetworks(n); err != nil {
				t.Fatal(err)
			}
			if drift, err := again().Observe(n); err != nil || len(drift) > 0 {
				t.Errorf("after the repair: %q, %v", drift, err)
			}
		})
	}
}
