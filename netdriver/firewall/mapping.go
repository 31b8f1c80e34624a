package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Slots is how many parts the new connections of a balanced front are dealt in. The kernel draws a slot for each and looks
// up whose it is, so that a change of the backends is a change of elements, never of rules.
const Slots = 64

// Mapping sends new connections to a container. Mappings of one front (see Front) with slots share its connections; a front
// with one backend needs no slots.
type Mapping struct {
	Protocol string         // tcp, udp, sctp; empty: Host is a virtual address, of which all ports are passed on
	Host     netip.AddrPort // where clients connect to; an invalid address stands for every address of the target's family
	Target   netip.AddrPort // the container's address and port
	Slot     int            // from 1 to Slots: this part of the connections; 0: all of them
	Owner    string         // container id, shown as comment by `nft list`
}

// Front is what clients connect to: the mapping without its backend.
func (m Mapping) Front() Mapping {
	return Mapping{Protocol: m.Protocol, Host: m.Host, Target: netip.AddrPortFrom(familyOf(m.Target.Addr()), 0)}
}

// key identifies what a mapping occupies in the kernel.
func (m Mapping) key() Mapping {
	front := m.Front()
	front.Slot = m.Slot
	return front
}

func familyOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// kind tells which map a mapping is an element of.
type kind struct{ virtual, any, shared, six bool }

func kinds() (out []kind) {
	for _, six := range []bool{false, true} {
		for _, shared := range []bool{false, true} {
			out = append(out, kind{shared: shared, six: six}, kind{any: true, shared: shared, six: six}, kind{virtual: true, shared: shared, six: six})
		}
	}
	return out
}

func (k kind) name() string {
	name := "ports"
	switch {
	case k.any:
		name = "any"
	case k.virtual:
		name = "virtual"
	}
	if k.shared {
		name = "shared-" + name
	}
	if k.six {
		return name + "6"
	}
	return name + "4"
}

// set is the map of this kind: [address .] [protocol . port .] [slot] to address [. port].
func (k kind) set(t *nftables.Table) *nftables.Set {
	addr := nftables.TypeIPAddr
	if k.six {
		addr = nftables.TypeIP6Addr
	}
	var key, data []nftables.SetDatatype
	if !k.any {
		key = append(key, addr)
	}
	data = append(data, addr)
	if !k.virtual {
		key = append(key, nftables.TypeInetProto, nftables.TypeInetService)
		data = append(data, nftables.TypeInetService)
	}
	if k.shared {
		key = append(key, nftables.TypeMark)
	}
	return &nftables.Set{
		Table: t, Name: k.name(), IsMap: true, Concatenation: len(key) > 1,
		KeyType: joined(key), DataType: joined(data),
	}
}

func joined(types []nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

func kindOf(m Mapping) kind {
	return kind{virtual: m.Protocol == "", any: !m.Host.Addr().IsValid(), shared: m.Slot > 0, six: m.Target.Addr().Is6()}
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// element lays a mapping out as the kernel has it: every part of a concatenation padded to four bytes.
func element(m Mapping) (nftables.SetElement, error) {
	proto, ok := protocols[m.Protocol]
	if !ok && m.Protocol != "" {
		return nftables.SetElement{}, fmt.Errorf("protocol %q cannot be published", m.Protocol)
	}
	if m.Host.Addr().IsValid() && m.Host.Addr().Is4() != m.Target.Addr().Is4() {
		return nftables.SetElement{}, fmt.Errorf("cannot publish %s at %s: different address families", m.Target, m.Host)
	}
	if m.Slot < 0 || m.Slot > Slots || m.Protocol == "" && !m.Host.Addr().IsValid() {
		return nftables.SetElement{}, fmt.Errorf("cannot publish %s at %s with slot %d", m.Target, m.Host, m.Slot)
	}
	var key []byte
	if m.Host.Addr().IsValid() {
		key = append(key, m.Host.Addr().AsSlice()...)
	}
	val := m.Target.Addr().AsSlice()
	if m.Protocol != "" {
		key = append(key, portKey(proto, m.Host.Port())...)
		val = append(binary.BigEndian.AppendUint16(val, m.Target.Port()), 0, 0)
	}
	if m.Slot > 0 {
		key = binary.NativeEndian.AppendUint32(key, uint32(m.Slot-1))
	}
	return nftables.SetElement{Key: key, Val: val, Comment: m.Owner}, nil
}

func portKey(proto byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{proto, 0, 0, 0}, port), 0, 0)
}

// mapping is the inverse of element.
func mapping(k kind, e nftables.SetElement) (Mapping, bool) {
	m := Mapping{Owner: e.Comment}
	key, width := e.Key, 4
	if k.six {
		width = 16
	}
	var host netip.Addr
	var port uint16
	if !k.any {
		if len(key) < width {
			return m, false
		}
		host, _ = netip.AddrFromSlice(key[:width])
		key = key[width:]
	}
	if !k.virtual {
		if len(key) < 8 || len(e.Val) < width+4 {
			return m, false
		}
		for name, number := range protocols {
			if number == key[0] {
				m.Protocol = name
			}
		}
		port = binary.BigEndian.Uint16(key[4:6])
		key = key[8:]
	}
	if k.shared {
		if len(key) < 4 {
			return m, false
		}
		m.Slot = int(binary.NativeEndian.Uint32(key)) + 1
	}
	if len(e.Val) < width {
		return m, false
	}
	addr, _ := netip.AddrFromSlice(e.Val[:width])
	var target uint16
	if !k.virtual {
		target = binary.BigEndian.Uint16(e.Val[width : width+2])
	}
	m.Host, m.Target = netip.AddrPortFrom(host, port), netip.AddrPortFrom(addr, target)
	return m, k.virtual == (m.Protocol == "")
}
