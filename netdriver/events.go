package netdriver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/firewall"
)

// hostNS stands for the host's own network namespace where the kernel's number of another could be.
const hostNS = -1

// suspicion is what an announcement of the kernel makes one look at.
type suspicion struct {
	link    string // a link of the host that went, or is down
	index   int    // a link of the host that lost an address
	ns      int    // a container's namespace in which something went
	nsSet   bool
	table   bool // the firewall table was touched by somebody else
	hosts   bool // a setting of the whole host
	lost    bool // announcements were: it may be anything
	port    string
	portNS  int // the namespace that a port leads to, of which more will be heard
	portOff bool
}

// Kernel constants that the unix package lacks.
const (
	netconfAll        = -1 // NETCONFA_IFINDEX_ALL
	netconfIndex      = 1
	netconfForwarding = 2
	nfTables          = 7 // NFNLGRP_NFTABLES
)

// announcements opens a socket that hears what the kernel announces to groups, in this network namespace and in all that
// it has links to: one socket for all containers.
func announcements(protocol int, groups ...int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel: %w", err), f.Close())
	}
	// Room for the announcements of many containers that come or go at once; what is lost nevertheless is told.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	}
	return f, nil
}

// hear calls fn for each announcement until the file is closed.
func hear(f *os.File, fn func(m syscall.NetlinkMessage, ns int), lost func()) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	for {
		var n, oobn int
		var got error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, got = unix.Recvmsg(int(fd), buf, oob, 0)
			return got != unix.EAGAIN && got != unix.EINTR
		})
		if err != nil {
			return // closed
		}
		if got != nil {
			lost() // ENOBUFS: there were more than the socket holds
			continue
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			lost()
			continue
		}
		ns := namespaceOf(oob[:oobn])
		for _, m := range messages {
			fn(m, ns)
		}
	}
}

func namespaceOf(oob []byte) int {
	control, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return hostNS
	}
	for _, c := range control {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(c.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(c.Data)))
		}
	}
	return hostNS
}

// aboutLinks makes a suspicion of what is announced of links, addresses and routes; ok when there is one. What comes into
// being, or changes without going down, is none.
func aboutLinks(m syscall.NetlinkMessage, ns int) (s suspicion, ok bool) {
	inside := suspicion{ns: ns, nsSet: true}
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return s, false
		}
		about := nl.DeserializeIfInfomsg(m.Data)
		// Down by somebody's word: a link that is only just made is announced with all bits changed.
		down := m.Header.Type == unix.RTM_NEWLINK && about.Flags&unix.IFF_UP == 0 && about.Change&unix.IFF_UP != 0 && about.Change != ^uint32(0)
		gone := m.Header.Type == unix.RTM_DELLINK
		if ns != hostNS {
			return inside, down || gone
		}
		attrs := attributes(m.Data[unix.SizeofIfInfomsg:])
		name := nl.BytesToString(attrs[unix.IFLA_IFNAME])
		s.portNS = hostNS
		if b := attrs[unix.IFLA_LINK_NETNSID]; len(b) >= 4 {
			s.port, s.portNS = name, int(int32(binary.NativeEndian.Uint32(b)))
		}
		if gone && about.Family != unix.AF_BRIDGE { // of that family: it only left its bridge
			s.port, s.portOff = name, true
		}
		if down || gone {
			s.link = name
		}
		return s, s.link != "" || s.port != ""
	case unix.RTM_DELADDR:
		if ns != hostNS {
			return inside, true
		}
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return s, false
		}
		return suspicion{index: int(nl.DeserializeIfAddrmsg(m.Data).Index)}, true
	case unix.RTM_DELROUTE:
		return inside, ns != hostNS
	case unix.RTM_NEWNETCONF:
		attrs := attributes(m.Data[min(len(m.Data), 4):]) // a padded family comes first
		index, forwarding := attrs[netconfIndex], attrs[netconfForwarding]
		off := len(index) >= 4 && int32(binary.NativeEndian.Uint32(index)) == netconfAll &&
			len(forwarding) >= 4 && binary.NativeEndian.Uint32(forwarding) == 0
		return suspicion{hosts: true}, ns == hostNS && off
	}
	return s, false
}

// aboutRules does the same of rules and elements. own tells whether a socket is this process's.
func aboutRules(m syscall.NetlinkMessage, ns int, table string, own func(port uint32) bool) (s suspicion, ok bool) {
	if len(m.Data) < nl.SizeofNfgenmsg || m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return s, false
	}
	gone := false
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
		gone = true
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_NEWSET, unix.NFT_MSG_NEWSETELEM:
	default:
		return s, false
	}
	const tableName = 1 // the same attribute in all of these
	name := nl.BytesToString(attributes(m.Data[nl.SizeofNfgenmsg:])[tableName])
	if ns != hostNS {
		return suspicion{ns: ns, nsSet: true}, gone && name == firewall.RedirectTable
	}
	return suspicion{table: true}, name == table && !own(m.Header.Pid)
}

func attributes(b []byte) map[uint16][]byte {
	out := map[uint16][]byte{}
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return out
	}
	for _, a := range list {
		out[a.Attr.Type&^unix.NLA_F_NESTED] = a.Value
	}
	return out
}
