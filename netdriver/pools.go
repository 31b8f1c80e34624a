package netdriver

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver/dump"
)

// DefaultPools are asked in this order; later ones serve where the earlier ones are taken by the host's routes.
func DefaultPools() []Pool {
	return []Pool{
		{netip.MustParsePrefix("10.210.0.0/16"), 24},
		{netip.MustParsePrefix("172.30.0.0/15"), 24},
		{netip.MustParsePrefix("192.168.128.0/17"), 24},
	}
}

// uniqueLocal is the /48 of this daemon's IPv6 networks: random enough to be unique (RFC 4193), yet always the same.
func uniqueLocal(seed string) Pool {
	h := sha256.Sum256([]byte("ula:" + seed))
	b := [16]byte{0xfd}
	copy(b[1:6], h[:5])
	return Pool{netip.PrefixFrom(netip.AddrFrom16(b), 48), 64}
}

// chooseSubnets checks the subnets asked for and adds one for each enabled family that has none.
func (m *Manager) chooseSubnets(n Network) ([]Subnet, error) {
	if n.Driver == "host" || n.Driver == "none" {
		return nil, nil
	}
	used, err := m.usedPrefixes(n)
	if err != nil {
		return nil, err
	}
	var out []Subnet
	have := map[bool]bool{} // by Is4
	for _, s := range n.Subnets {
		if !s.Prefix.IsValid() {
			continue
		}
		s.Prefix, s.Range = s.Prefix.Masked(), s.Range.Masked()
		is4 := s.Prefix.Addr().Is4()
		if is4 && !n.IPv4 || !is4 && !n.IPv6 {
			return nil, fmt.Errorf("subnet %s is of a family that the network does not enable: %w", s.Prefix, ErrUnsupported)
		}
		if u, taken := overlapping(used, s.Prefix); taken {
			return nil, fmt.Errorf("subnet %s: %w with %s (%s): choose another subnet", s.Prefix, ErrOverlap, u.prefix, u.by)
		}
		used = append(used, usedPrefix{s.Prefix, "this network"})
		have[is4] = true
		out = append(out, withGateway(s))
	}
	for _, family := range []struct {
		is4, wanted bool
		pools       []Pool
	}{{true, n.IPv4, m.opts.AddressPools}, {false, n.IPv6, append([]Pool{uniqueLocal(m.opts.Seed)}, m.opts.AddressPools...)}} {
		if !family.wanted || have[family.is4] {
			continue
		}
		p, err := firstFree(withRoom(family.pools, n.Room), family.is4, used)
		if err != nil {
			return nil, err
		}
		used = append(used, usedPrefix{p, "this network"})
		out = append(out, withGateway(Subnet{Prefix: p}))
	}
	return out, nil
}

// withGateway takes the first address of the range, or subnet, that is free for it.
func withGateway(s Subnet) Subnet {
	if s.Gateway.IsValid() {
		return s
	}
	from := s.Prefix
	if s.Range.IsValid() && s.Range.Addr() != s.Prefix.Addr() {
		from = s.Range
	}
	taken := map[netip.Addr]bool{}
	for _, a := range s.Aux {
		taken[a] = true
	}
	a := from.Addr()
	if a == s.Prefix.Addr() {
		a = a.Next()
	}
	for taken[a] {
		a = a.Next()
	}
	s.Gateway = a
	return s
}

type usedPrefix struct {
	prefix netip.Prefix
	by     string
}

// usedPrefixes lists what a new subnet must not overlap: other networks, addresses of the host's links (which includes
// other daemons' bridges), and its routes.
func (m *Manager) usedPrefixes(n Network) ([]usedPrefix, error) {
	var out []usedPrefix
	m.mu.Lock()
	links := map[string]bool{}
	for _, other := range m.networks {
		for _, s := range other.Subnets {
			out = append(out, usedPrefix{s.Prefix, "network " + other.Name})
		}
		links[other.Link] = true
	}
	m.mu.Unlock()
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet.IP, a.IPNet.Mask); ok && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, usedPrefix{p, "an address of the host"})
		}
	}
	routes, err := dump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		p, ok := prefixOf(r.Dst.IP, r.Dst.Mask)
		if ok && p.Bits() > 0 && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() {
			out = append(out, usedPrefix{p, "a route of the host"})
		}
	}
	return out, nil
}

func prefixOf(ip []byte, mask []byte) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, false
	}
	bits := 0
	for _, b := range mask {
		for ; b != 0; b <<= 1 {
			bits++
		}
	}
	if a.Is4In6() && len(mask) == 4 {
		a = a.Unmap()
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

func overlapping(used []usedPrefix, p netip.Prefix) (usedPrefix, bool) {
	for _, u := range used {
		if u.prefix.Overlaps(p) {
			return u, true
		}
	}
	return usedPrefix{}, false
}

// withRoom cuts larger pieces from the IPv4 pools where as many containers as are to come would fill more than half of the
// usual one. A pool that is smaller than that gives all it has.
func withRoom(pools []Pool, containers int) []Pool {
	need := 32 - bits.Len(uint(2*containers+2)) // with the network's, the gateway's and the broadcast address
	out := slices.Clone(pools)
	for i, p := range out {
		if p.Base.Addr().Is4() {
			out[i].Size = max(min(p.Size, need), p.Base.Bits())
		}
	}
	return out
}

// firstFree cuts the first free piece from the pools of a family.
func firstFree(pools []Pool, is4 bool, used []usedPrefix) (netip.Prefix, error) {
	family := "IPv6"
	if is4 {
		family = "IPv4"
	}
	for _, pool := range pools {
		if pool.Base.Addr().Is4() != is4 {
			continue
		}
		for p, ok := pool.Base.Masked(), true; ok; {
			p = netip.PrefixFrom(p.Addr(), pool.Size)
			u, taken := overlapping(used, p)
			if !taken {
				return p, nil
			}
			// Step over what is in the way, which may be larger than a piece.
			bits := min(pool.Size, u.prefix.Bits())
			p, ok = nextPrefix(netip.PrefixFrom(p.Addr(), bits).Masked())
			ok = ok && pool.Base.Contains(p.Addr())
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: every %s address pool is used up or covered by routes of the host: remove unused networks, or set addressPools in the host configuration", ErrExhausted, family)
}

// nextPrefix is the prefix of the same size behind p.
func nextPrefix(p netip.Prefix) (netip.Prefix, bool) {
	b := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	switch {
	case bits == 0:
		return netip.Prefix{}, false
	case bits <= 64:
		hi += 1 << (64 - bits)
		if hi == 0 {
			return netip.Prefix{}, false
		}
	default:
		step := uint64(1) << (128 - bits)
		if lo+step < lo {
			hi++
		}
		lo += step
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	a := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		if a = a.Unmap(); !a.Is4() {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(a, p.Bits()), true
}
