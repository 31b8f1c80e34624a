package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// usableWithin bounds the wait for the kernel's background work on a new IPv6 address: milliseconds, more on a host
// under heavy load.
const usableWithin = 20 * time.Second

// addAddress gives a link, which must be up, an address that works when it returns. An address it has is no error. The
// kernel makes an IPv6 address its own in the background, even without duplicate detection: until then it sends from it
// but drops the answers, which costs a second at each container's start. It announces the moment.
func addAddress(h *netlink.Handle, ns netns.NsHandle, l netlink.Link, p netip.Prefix) error {
	var announcements *nl.NetlinkSocket
	if p.Addr().Is6() {
		var err error
		if announcements, err = nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_IPV6_IFADDR); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
		defer announcements.Close()
	}
	err := h.AddrAdd(l, address(p))
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	if err == nil && announcements != nil {
		err = awaitAddress(announcements, l.Attrs().Index, p.Addr())
	}
	if err != nil {
		return fmt.Errorf("address %s: %w", p, err)
	}
	return nil
}

// awaitAddress reads announcements until one says that the link has the address for good.
func awaitAddress(s *nl.NetlinkSocket, link int, a netip.Addr) error {
	limit := unix.NsecToTimeval(usableWithin.Nanoseconds())
	if err := s.SetReceiveTimeout(&limit); err != nil {
		return err
	}
	for {
		messages, _, err := s.Receive()
		if err != nil {
			return fmt.Errorf("wait for the kernel to take it on: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
				continue
			}
			about := nl.DeserializeIfAddrmsg(m.Data)
			attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfAddrmsg:])
			if err != nil || int(about.Index) != link || about.Flags&unix.IFA_F_TENTATIVE != 0 {
				continue
			}
			for _, attr := range attrs {
				if got, ok := netip.AddrFromSlice(attr.Value); attr.Attr.Type == unix.IFA_ADDRESS && ok && got == a {
					return nil
				}
			}
		}
	}
}

// address as netlink takes it; IPv6 without duplicate detection: the allocator sees to it that there are none. One that
// stands alone, a virtual one, is no address to send from as long as there is another.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
		if p.Bits() == p.Addr().BitLen() {
			a.ValidLft, a.PreferedLft = forever, 0
		}
	}
	return a
}
