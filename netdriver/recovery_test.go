package netdriver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

func TestDaemonKilledAndStartedAgain(t *testing.T) {
	d := newDaemon(t)
	kept := d.network(bridged("kept"))
	other := outside(t)
	stays := d.run("stays", []string{"kept"}, netdriver.Port{HostPort: 7050, Target: 80, Protocol: "tcp"})
	dies := d.run("dies", []string{"kept"}, netdriver.Port{HostPort: 7051, Target: 80, Protocol: "tcp"})
	serve(t, stays.Namespace, "stays", 80)
	half := d.network(v4("half")) // made, but the daemon died before its record was kept
	if err := os.Remove(filepath.Join(d.opts.Root, "half.json")); err != nil {
		t.Fatal(err)
	}
	d.open()
	if err := d.Restore(stays.sandbox.Endpoints, map[string]string{stays.id: stays.Path()}); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(ctx, map[string]bool{stays.id: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(half.Link); err == nil {
		t.Errorf("bridge %s without a record is left", half.Link)
	}
	for _, l := range must(netlink.LinkList()) {
		if l.Type() == "veth" && l.Attrs().Name != "uplink" && l.Attrs().MasterIndex != must(netlink.LinkByName(kept.Link)).Attrs().Index {
			t.Errorf("link %s is left", l.Attrs().Name)
		}
	}
	if has := must(filepath.Glob(filepath.Join(d.opts.RunDir, "dns", "*", "*"))); len(has) != 1 || !strings.Contains(has[0], stays.id) {
		t.Errorf("dns records: %v", has)
	}
	if got, err := call(t, other, "tcp", "203.0.113.1:7050"); !strings.HasPrefix(got, "stays") {
		t.Errorf("the container that stays: %q, %v", got, err)
	}
	dies.Do(t, func() error {
		if _, err := netlink.LinkByName("eth0"); err == nil {
			return errors.New("the container that is gone still has its interface")
		}
		return nil
	})
	if _, err := d.tryRun("new", []string{"kept"}, netdriver.Port{HostPort: 7050, Target: 80, Protocol: "tcp"}); !errors.Is(err, netdriver.ErrPortInUse) || !strings.Contains(err.Error(), "stays") {
		t.Errorf("the port of the container that stays: %v", err)
	}
	if e := must(d.Allocate(ctx, []netdriver.Endpoint{{Network: "kept", ContainerID: "z"}}))[0]; e.IPv4 == stays.sandbox.Endpoints[0].IPv4 {
		t.Errorf("the address of the container that stays is given out again")
	}
}

func TestTheLastDaemonPutsForwardingBack(t *testing.T) {
	forwarding := func() string { return strings.TrimSpace(string(must(os.ReadFile("/proc/sys/net/ipv4/ip_forward")))) }
	a, b := newDaemon(t), newDaemon(t)
	a.network(v4("n"))
	b.network(v4("n"))
	if err := a.Remove(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	if forwarding() != "1" {
		t.Error("off although another daemon needs it")
	}
	if err := b.Remove(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	if forwarding() != "0" {
		t.Error("left on by the last daemon")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	a.network(v4("n"))
	if err := a.Remove(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	if forwarding() != "1" {
		t.Error("switched off although it was on before")
	}
	os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644)
}

func TestDaemonKilledBeforeTheLinkIsOnRecord(t *testing.T) {
	d := newDaemon(t)
	n := d.network(v4("n"))
	path := filepath.Join(d.opts.Root, "n.json")
	b := must(os.ReadFile(path))
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), n.Link, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.open()
	if err := d.Sweep(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(n.Link); err != nil {
		t.Errorf("the network's bridge: %v", err)
	}
	if got := d.network(v4("n")); got.Link != n.Link || got.ID != n.ID {
		t.Errorf("%+v, expected %+v", got, n)
	}
}
