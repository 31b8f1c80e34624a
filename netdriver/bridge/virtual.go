package bridge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dump"
)

// virtual are the addresses at which the bridge answers for groups of containers.
func virtual(n netdriver.Network) (out []netip.Prefix) {
	for _, a := range n.Virtual {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// Answer implements netdriver.Answerer: virtual addresses are the bridge's own, so that it answers who asks for their links.
// Each is entered in the firewall before and leaves it after, or the host's programs would be reached by it.
func (d *Driver) Answer(_ context.Context, n netdriver.Network) error {
	br, err := netlink.LinkByName(d.linkName(n))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // it is made with them
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	have, err := dump.Whole(func() ([]netlink.Addr, error) { return h.AddrList(br, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	missing := virtual(n)
	var strays []netlink.Addr
	var gone []netip.Addr
	for _, a := range have {
		p, ok := hostAddress(a, n)
		if i := slices.Index(missing, p); ok && i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		} else if ok {
			strays, gone = append(strays, a), append(gone, p.Addr())
		}
	}
	for _, a := range strays {
		if err := h.AddrDel(br, &a); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("bridge %s: virtual address %s: %w", n.Link, a.IP, err)
		}
	}
	if err := d.fw.Answer(addrsOf(missing), gone); err != nil {
		return err
	}
	for _, p := range missing {
		if err := addAddress(h, netns.None(), br, p); err != nil {
			return fmt.Errorf("bridge %s: virtual %w", n.Link, err)
		}
	}
	return nil
}

func addrsOf(list []netip.Prefix) (out []netip.Addr) {
	for _, p := range list {
		out = append(out, p.Addr())
	}
	return out
}

// hostAddress gives an address that stands alone within the network's subnets, as virtual ones do.
func hostAddress(a netlink.Addr, n netdriver.Network) (netip.Prefix, bool) {
	ip, _ := netip.AddrFromSlice(a.IP)
	ip = ip.Unmap()
	if ones, all := a.Mask.Size(); ones != all {
		return netip.Prefix{}, false
	}
	inside := slices.ContainsFunc(n.Subnets, func(s netdriver.Subnet) bool { return s.Prefix.Contains(ip) && ip != s.Gateway })
	return netip.PrefixFrom(ip, ip.BitLen()), inside
}

// forever is a lifetime without end, in seconds.
const forever = math.MaxUint32
