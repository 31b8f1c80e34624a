// Package bridge makes networks of one host: a Linux bridge each, a veth pair for each container.
package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dump"
	"github.com/stack-run/stack/netdriver/firewall"
)

// Driver makes bridges whose names and owner marks derive from seed.
type Driver struct {
	seed string
	fw   *firewall.Table
}

var (
	_ netdriver.Driver          = (*Driver)(nil)
	_ netdriver.Sweeper         = (*Driver)(nil)
	_ netdriver.Answerer        = (*Driver)(nil)
	_ netdriver.SandboxObserver = (*Driver)(nil)
	_ netdriver.Tracer          = (*Driver)(nil)
)

// New gives the driver of the daemon known by seed (its root folder), which enters its bridges in fw.
func New(seed string, fw *firewall.Table) *Driver { return &Driver{seed: seed, fw: fw} }

// owner marks links as this daemon's (shown as alias by `ip link`). Links without it are never removed.
func (d *Driver) owner() string { return "stack:" + d.seed }

// short hashes parts to n hex digits.
func short(n int, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:n]
}

// linkName is the bridge's name in the kernel, also where a daemon died before it was on record.
func (d *Driver) linkName(n netdriver.Network) string {
	if n.Link != "" {
		return n.Link
	}
	if o, err := parse(n.Options); err == nil && o.name != "" {
		return o.name
	}
	return "st-" + short(12, d.seed, n.Name)
}

// Validate implements netdriver.Driver.
func (d *Driver) Validate(n netdriver.Network) error {
	_, err := parse(n.Options)
	if !n.IPv4 && !n.IPv6 {
		err = errors.Join(err, fmt.Errorf("neither IPv4 nor IPv6 is enabled: %w", netdriver.ErrUnsupported))
	}
	return err
}

// Create makes the bridge, or completes and corrects the one that is there.
func (d *Driver) Create(_ context.Context, n *netdriver.Network) error {
	o, err := parse(n.Options)
	if err != nil {
		return err
	}
	n.Link = d.linkName(*n)
	br, err := d.ensureLink(n, o)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	// Before the link is up, so that nothing passes it unfiltered.
	if err := d.fw.AddNetworks(d.entry(*n, o)); err != nil {
		return err
	}
	for key, value := range linkSettings(*n) {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("bridge %s: %w", n.Link, err)
		}
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	if err := h.LinkSetUp(br); err != nil {
		return fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	for _, p := range append(gateways(*n), linkLocal(*n, br)...) {
		if err := addAddress(h, netns.None(), br, p); err != nil {
			return fmt.Errorf("bridge %s: %w", n.Link, err)
		}
	}
	return nil
}

func (d *Driver) entry(n netdriver.Network, o options) firewall.Network {
	return firewall.Network{Virtual: n.Virtual, Link: n.Link, Internal: n.Internal, IPv6: n.IPv6, Masquerade4: o.masquerade && n.IPv4, Masquerade6: o.masquerade && n.IPv6}
}

func (d *Driver) ensureLink(n *netdriver.Network, o options) (netlink.Link, error) {
	existing, err := netlink.LinkByName(n.Link)
	if err == nil {
		if existing.Type() != "bridge" {
			return nil, fmt.Errorf("a link of this name exists and is a %s: %w", existing.Type(), netdriver.ErrConflict)
		}
		if other := existing.Attrs().Alias; other != d.owner() && other != "" && o.name == "" {
			return nil, fmt.Errorf("the link belongs to %s: %w", other, netdriver.ErrConflict)
		}
		if existing.Attrs().Alias == "" && o.name == "" {
			// Made by a daemon that died before it could say whose it is: a derived name is nobody else's.
			if err := netlink.LinkSetAlias(existing, d.owner()); err != nil {
				return nil, err
			}
		}
		return existing, nil
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.Link, o.mtu, hardwareAddr(gatewayAddr(*n))
	if o.mtu == 0 {
		attrs.MTU = uplinkMTU()
	}
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetAlias(br, d.owner()); err != nil {
		return nil, errors.Join(err, netlink.LinkDel(br))
	}
	return br, nil
}

// uplinkMTU is 1500, or less where the host's default route leads through a link with less.
func uplinkMTU() int {
	mtu := 1500
	routes, err := dump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return mtu
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU < mtu && l.Attrs().MTU >= 1280 {
			mtu = l.Attrs().MTU
		}
	}
	return mtu
}

// linkSettings are the bridge's own kernel settings, below /proc/sys/net. They go with the bridge.
func linkSettings(n netdriver.Network) map[string]string {
	s := map[string]string{
		// So that 127.0.0.1:<published port> on the host reaches containers; the firewall keeps containers from abusing it.
		"ipv4/conf/" + n.Link + "/route_localnet": "1",
		// A container must not be able to give the host a default route.
		"ipv6/conf/" + n.Link + "/accept_ra":  "0",
		"ipv6/conf/" + n.Link + "/accept_dad": "0",
		// Its link-local address is given to it, with the others: see linkLocal.
		"ipv6/conf/" + n.Link + "/addr_gen_mode": "1",
	}
	if !n.IPv6 {
		s = map[string]string{
			"ipv4/conf/" + n.Link + "/route_localnet": "1",
			"ipv6/conf/" + n.Link + "/disable_ipv6":   "1",
		}
	}
	return s
}

// gateways are the bridge's own addresses.
func gateways(n netdriver.Network) (out []netip.Prefix) {
	for _, s := range n.Subnets {
		if !s.Gateway.IsValid() {
			continue
		}
		out = append(out, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
	}
	return out
}

// linkLocal is the address that the kernel would give to the bridge, which it does in the background when the first
// container is connected. Until it has made it its own it asks for neighbours from it, but drops their answers.
func linkLocal(n netdriver.Network, br netlink.Link) []netip.Prefix {
	mac := br.Attrs().HardwareAddr
	if !n.IPv6 || len(mac) != 6 {
		return nil
	}
	a := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return []netip.Prefix{netip.PrefixFrom(a, 64)}
}

func gatewayAddr(n netdriver.Network) netip.Addr {
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			return s.Gateway
		}
	}
	return netip.Addr{}
}

// hardwareAddr derives from an address, so that an address always has the same one and no neighbour cache goes stale.
func hardwareAddr(a netip.Addr) net.HardwareAddr { return netdriver.HardwareAddr(a) }

// Remove takes the bridge and what is plugged into it away, unless it was not made by this daemon.
func (d *Driver) Remove(_ context.Context, n netdriver.Network) error {
	name := d.linkName(n)
	if err := d.removeLink(name); err != nil {
		return err
	}
	return d.fw.RemoveNetworks(name)
}

func (d *Driver) removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	if err := deletePorts(portsOf(links, map[int]bool{l.Attrs().Index: true})); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	if l.Attrs().Alias != d.owner() {
		return nil // a bridge of the user's that the network was put on
	}
	return deleteLink(l)
}

func deleteLink(l netlink.Link) error {
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove link %s: %w", l.Attrs().Name, err)
	}
	return nil
}

func mustParse(n netdriver.Network) options {
	o, _ := parse(n.Options) // Validate has accepted them
	return o
}
