package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
)

// parallel sandboxes in the making. The kernel does most of this under one lock; what overlaps is the waiting.
const parallel = 4

// portPrefix starts the names of the host's ends of veth pairs.
const portPrefix = "sv"

func (d *Driver) portName(network, container string) string {
	return portPrefix + short(13, d.seed, network, container)
}

// Port implements netdriver.Tracer.
func (d *Driver) Port(network, containerID string) string { return d.portName(network, containerID) }

// Connect implements netdriver.Driver.
func (d *Driver) Connect(ctx context.Context, n netdriver.Network, sandboxes []netdriver.Sandbox) error {
	br, err := netlink.LinkByName(n.Link)
	if err != nil {
		return fmt.Errorf("network %s: bridge %s: %w", n.Name, n.Link, err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	o := portOptions{isolated: mustParse(n).isolated, hairpin: bridgeNetfilter()}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			if e.Network != n.Name {
				continue
			}
			group.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := d.plug(h, br, n, o, s, e); err != nil {
					return fmt.Errorf("connect %s to network %s: %w", e.Container, n.Name, err)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := settle(h, n.Link); err != nil {
		return err
	}
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			if e.Network == n.Name {
				introduce(h, br.Attrs().Index, e)
			}
		}
	}
	return nil
}

// settle makes the kernel act on a link's new carrier now. It would do so a moment later, in the background, and until
// then drop what is sent (a lost ARP request costs a second). Asking for a link does it first (Linux 6.8 and later;
// before, there is nothing but to hope for the moment that a container takes to start).
func settle(h *netlink.Handle, name string) error {
	if _, err := h.LinkByName(name); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// plug makes one veth pair and what belongs to it inside the sandbox. On failure it leaves nothing of it.
func (d *Driver) plug(h *netlink.Handle, br netlink.Link, n netdriver.Network, o portOptions, s netdriver.Sandbox, e netdriver.Endpoint) (err error) {
	ns, err := os.Open(s.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	in, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer in.Close()

	p := pair{
		host: d.portName(n.Name, s.ContainerID), bridge: br.Attrs().Index, mtu: br.Attrs().MTU,
		peer: e.Interface, peerNetns: int(ns.Fd()), mac: macOf(e),
	}
	err = p.add()
	if errors.Is(err, syscall.EEXIST) {
		if has(in, e) {
			return d.mend(h, in, netns.NsHandle(ns.Fd()), br, n, o, p.host, e)
		}
		// Left by a daemon that died half-way, or by an earlier sandbox of the container.
		if old, findErr := h.LinkByName(p.host); findErr == nil {
			if err := deleteLink(old); err != nil {
				return err
			}
		}
		err = p.add()
	}
	if err != nil {
		return fmt.Errorf("make interface %s: %w", e.Interface, err)
	}
	defer func() {
		if err == nil {
			return
		}
		if l, findErr := h.LinkByName(p.host); findErr == nil {
			err = errors.Join(err, deleteLink(l))
		}
	}()
	if err := tunePort(h, o, p.host); err != nil {
		return err
	}
	if err := configure(in, netns.NsHandle(ns.Fd()), n, e); err != nil {
		return err
	}
	return settle(h, p.host)
}

type portOptions struct {
	// isolated ports don't reach each other: a network without inter-container connections.
	isolated bool
	// hairpin lets a container reach its own published port where br_netfilter bridges the translated packet back to
	// the port it came from.
	hairpin bool
}

func tunePort(h *netlink.Handle, o portOptions, name string) error {
	if !o.isolated && !o.hairpin {
		return nil
	}
	port, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("port %s: %w", name, err)
	}
	if o.hairpin {
		if err := h.LinkSetHairpin(port, true); err != nil {
			return fmt.Errorf("port %s: hairpin: %w", name, err)
		}
	}
	if o.isolated {
		if err := h.LinkSetIsolated(port, true); err != nil {
			return fmt.Errorf("port %s: isolate: %w", name, err)
		}
	}
	return nil
}

// bridgeNetfilter tells whether the host shows bridged packets to the IP firewall.
func bridgeNetfilter() bool {
	for _, file := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		b, err := os.ReadFile("/proc/sys/net/bridge/" + file)
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return true
		}
	}
	return false
}

// pair is a veth pair, made by one netlink message: both ends named, one up on the bridge, one in the sandbox. (The kernel
// refuses to bring the second end up before the pair is complete.)
type pair struct {
	host      string
	bridge    int
	mtu       int
	peer      string
	peerNetns int
	mac       net.HardwareAddr
}

func (p pair) add() error {
	up := nl.NewIfInfomsg(unix.AF_UNSPEC)
	up.Change, up.Flags = unix.IFF_UP, unix.IFF_UP
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(up)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.host)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.mtu))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(p.bridge))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.peer))
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.mtu)))
	peer.AddRtAttr(unix.IFLA_ADDRESS, p.mac)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(p.peerNetns)))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func macOf(e netdriver.Endpoint) net.HardwareAddr {
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		return mac
	}
	if e.IPv4.IsValid() {
		return hardwareAddr(e.IPv4.Addr())
	}
	return hardwareAddr(e.IPv6.Addr())
}

// has tells whether the sandbox has the endpoint's interface.
func has(in *netlink.Handle, e netdriver.Endpoint) bool {
	l, err := in.LinkByName(e.Interface)
	return err == nil && l.Attrs().HardwareAddr.String() == macOf(e).String()
}

// mend brings a pair that is there to what it should be, without disturbing what goes through it.
func (d *Driver) mend(h, in *netlink.Handle, ns netns.NsHandle, br netlink.Link, n netdriver.Network, o portOptions, host string, e netdriver.Endpoint) error {
	port, err := h.LinkByName(host)
	if err != nil {
		return fmt.Errorf("port %s: %w", host, err)
	}
	if port.Attrs().MasterIndex != br.Attrs().Index {
		if err := h.LinkSetMaster(port, br); err != nil {
			return fmt.Errorf("port %s: put it on bridge %s: %w", host, n.Link, err)
		}
		if err := tunePort(h, o, host); err != nil {
			return err
		}
	}
	if port.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(port); err != nil {
			return fmt.Errorf("port %s: %w", host, err)
		}
	}
	if err := configure(in, ns, n, e); err != nil {
		return err
	}
	return settle(h, host)
}

// configure gives the interface its addresses and routes.
func configure(in *netlink.Handle, ns netns.NsHandle, n netdriver.Network, e netdriver.Endpoint) error {
	l, err := in.LinkByName(e.Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", e.Interface, err)
	}
	if err := in.LinkSetUp(l); err != nil {
		return fmt.Errorf("interface %s: %w", e.Interface, err)
	}
	families := []netip.Prefix{e.IPv4, e.IPv6}
	for _, p := range families {
		if !p.IsValid() {
			continue
		}
		if err := addAddress(in, ns, l, p); err != nil {
			return fmt.Errorf("interface %s: %w", e.Interface, err)
		}
	}
	for _, gateway := range defaultRoutes(n, e) {
		if err := in.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("interface %s: default route by %s: %w", e.Interface, gateway, err)
		}
	}
	return nil
}

// Disconnect implements netdriver.Driver. Removing the host's end removes the pair. Each removal makes the kernel wait for
// every CPU once, so all are put into a group first, which is removed as one.
func (d *Driver) Disconnect(_ context.Context, n netdriver.Network, sandboxes []netdriver.Sandbox) error {
	names := make([]string, 0, len(sandboxes))
	for _, s := range sandboxes {
		names = append(names, d.portName(n.Name, s.ContainerID))
	}
	if err := deletePorts(names); err != nil {
		return fmt.Errorf("disconnect from network %s: %w", n.Name, err)
	}
	return nil
}

// deletePorts removes links by name; those that are gone are no error.
func deletePorts(names []string) error {
	// Random, so that no other program's group is met. The default group is 0.
	group := rand.Uint32() | 1<<31
	found := 0
	for _, name := range names {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		switch {
		case err == nil:
			found++
		case !errors.Is(err, syscall.ENODEV):
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	if found == 0 {
		return nil
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove %d links: %w", found, err)
	}
	return nil
}
