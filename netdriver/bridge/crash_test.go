package bridge_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver/bridge"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/firewall"
)

func TestABridgeOfADaemonThatDiedBeforeItNamedItsOwnerIsTakenOverAndRemoved(t *testing.T) {
	d := bridge.New("/var/lib/stack-test", firewall.Open("test"))
	n := network(nil)
	if err := d.Create(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(n.Link)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetAlias(link, ""); err != nil {
		t.Fatal(err)
	}
	again := network(nil)
	if err := d.Create(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(n.Link); err == nil {
		t.Error("the bridge is still there")
		_ = netlink.LinkDel(link)
	}
	drivertest.NoTables(t)
}
