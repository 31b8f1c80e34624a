package netdriver

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/firewall"
)

// staleFlows matches UDP flows that their own packets would keep alive in the kernel though the rules say otherwise: those
// to a backend that went, and those without translation to a port from before it was published. TCP connections end by
// themselves, but for those of containers that are gone.
type staleFlows struct {
	hosts   map[netip.AddrPort]bool
	any     map[uint16]bool
	targets map[netip.AddrPort]bool
	virtual map[netip.Addr]bool // containers that all ports of a virtual address led to
	// ended are the ports of containers that are gone altogether, with port 0 all that a virtual address led to: a client that
	// comes back with the port of a connection that was just closing would be sent to them, until the kernel forgets it by itself.
	ended    map[netip.AddrPort]bool
	families map[netlink.InetFamily]bool
}

// stale finds what a change makes of the flows; backends that stay keep theirs. It is asked before the change is made true.
func (f fronts) stale(c frontChange) staleFlows {
	s := staleFlows{map[netip.AddrPort]bool{}, map[uint16]bool{}, map[netip.AddrPort]bool{}, map[netip.Addr]bool{}, map[netip.AddrPort]bool{}, map[netlink.InetFamily]bool{}}
	for id, next := range c.members {
		stays := map[firewall.Mapping]bool{}
		for _, m := range next.mappings {
			stays[m] = true
		}
		for _, m := range f.members[id].mappings {
			if !stays[m] {
				s.add(m, true)
			}
			if len(next.mappings) == 0 && (m.Protocol == "tcp" || m.Protocol == "") {
				s.ended[m.Target] = true
				s.families[family(m)] = true
			}
		}
	}
	for front, list := range c.entered {
		if len(f.entered[front]) == 0 && len(list) > 0 {
			s.add(list[0], false)
		}
	}
	return s
}

func (s staleFlows) add(m firewall.Mapping, gone bool) {
	switch {
	case m.Protocol == "" && gone:
		s.virtual[m.Target.Addr()] = true
	case m.Protocol != "udp":
		return
	case gone:
		s.targets[m.Target] = true
	case m.Host.Addr().IsValid():
		s.hosts[m.Host] = true
	default:
		s.any[m.Host.Port()] = true
	}
	s.families[family(m)] = true
}

func family(m firewall.Mapping) netlink.InetFamily {
	if m.Target.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP && flow.Forward.Protocol != unix.IPPROTO_TCP {
		return false
	}
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	to := netip.AddrPortFrom(dst.Unmap(), flow.Forward.DstPort)
	src, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	from := netip.AddrPortFrom(src.Unmap(), flow.Reverse.SrcPort)
	if flow.Forward.Protocol == unix.IPPROTO_TCP {
		return to != from && !over(flow) && (s.ended[from] || s.ended[netip.AddrPortFrom(from.Addr(), 0)])
	}
	if to != from {
		return s.targets[from] || s.virtual[from.Addr()]
	}
	return s.hosts[to] || s.any[to.Port()]
}

// trackedTimeWait is a state of a TCP connection in the kernel's tracking: nf_conntrack_tcp_common.h.
const trackedTimeWait = 7

// over tells whether the next client from the same port begins a connection anew, whatever is remembered of the last one. To
// have it forgotten could hit that client: it is named by its port, and may be there by then. One that was reset is not over:
// unless the container had the last word, what comes from its port still goes there.
func over(flow *netlink.ConntrackFlow) bool {
	tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
	return ok && tcp.State == trackedTimeWait
}

// forget makes the kernel forget them, so that their next packets see the rules.
func (s staleFlows) forget() error {
	for family := range s.families {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, s)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget flows of ports: %w", err)
		}
	}
	return nil
}
