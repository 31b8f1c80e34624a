// Package firewall keeps a daemon's nftables table: which bridges are its own, what may pass between them, and published
// ports. There is one table of family inet a daemon, named after the daemon's root. Its rules are constant (see
// addChains); networks and ports are elements of sets, so that a change costs what changed, in one transaction.
//
// The table exists while there is a network. Whatever it needed of the host's settings (IP forwarding) is remembered in
// the table itself and put back by the last daemon that leaves (see forwarding.go).
//
// Tables of others are never touched, and what they drop stays dropped: the kernel asks every table. On a host whose own
// firewall drops forwarded packets (Docker sets such a policy, so do ufw and firewalld), the bridges must be allowed
// there: for Docker `iptables -I DOCKER-USER -i st-+ -j ACCEPT` and the same with -o.
package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Table is a handle on one daemon's table. Making one costs nothing. Methods are safe for concurrent use.
type Table struct {
	name string

	mu    sync.Mutex
	built bool // this process has seen the table complete
	// This process has switched on (or inherited) forwarding.
	forwards4, forwards6 bool
	// Notes this process made or found, kept for the case that somebody flushes the host's rulesets.
	noted []string
}

// TablePrefix starts the names of the tables of all daemons.
const TablePrefix = "stack-"

// Open gives the table called TablePrefix+id, whether it exists or not.
func Open(id string) *Table { return &Table{name: TablePrefix + id} }

// Name of the table in the kernel.
func (t *Table) Name() string { return t.name }

// Network is what the rules know of a bridge.
type Network struct {
	Link                     string // name of the bridge
	Internal                 bool   // nothing is forwarded in or out
	Masquerade4, Masquerade6 bool   // packets that leave take the host's address
	IPv6                     bool   // needs IPv6 forwarding
}

// Mapping is one published port. An invalid Host.Addr() stands for every address of the target's family.
type Mapping struct {
	Protocol string         // tcp, udp, sctp
	Host     netip.AddrPort // where clients connect to
	Target   netip.AddrPort // the container's address and port
	Owner    string         // container id, shown as comment by `nft list`
}

// key identifies what a mapping occupies.
func (m Mapping) key() Mapping {
	return Mapping{Protocol: m.Protocol, Host: m.Host, Target: netip.AddrPortFrom(familyOf(m.Target.Addr()), 0)}
}

func familyOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// AddNetworks enters bridges, making the table first where it is missing. Entering one again is no error; its flags are
// then replaced.
func (t *Table) AddNetworks(networks ...Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ensure(networks); err != nil {
		return fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	have, err := t.links()
	if err != nil {
		return fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	return t.transaction(func(c *nftables.Conn, s *schema) error {
		for _, n := range networks {
			if err := removeLink(c, s, n.Link, have); err != nil {
				return err
			}
			if err := addLink(c, s, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveNetworks takes bridges out. When none is left, the table goes and the host's settings are put back.
func (t *Table) RemoveNetworks(links ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, err := t.links()
	if errors.Is(err, unix.ENOENT) {
		if len(t.noted) == 0 {
			t.built = false
			return nil
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	left := len(have["bridges"])
	for _, l := range links {
		if have["bridges"][l] {
			left--
		}
	}
	if left == 0 {
		return t.drop()
	}
	return t.transaction(func(c *nftables.Conn, s *schema) error {
		for _, l := range links {
			if err := removeLink(c, s, l, have); err != nil {
				return err
			}
		}
		return nil
	})
}

// Networks lists the bridges entered; none when the table is missing.
func (t *Table) Networks() ([]Network, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, err := t.links()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	var out []Network
	for l := range have["bridges"] {
		out = append(out, Network{Link: l, Internal: have["internal"][l], Masquerade4: have["masquerade4"][l], Masquerade6: have["masquerade6"][l]})
	}
	return out, nil
}

// Drop removes the table whatever is in it and puts the host's settings back. It is no error when there is none.
func (t *Table) Drop() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.drop()
}

// links reads the sets of links: set name to link names. unix.ENOENT when the table is missing.
func (t *Table) links() (map[string]map[string]bool, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	s := newSchema(t.name)
	if err := exists(c, s.bridges); err != nil {
		return nil, err
	}
	out := map[string]map[string]bool{}
	for _, set := range []*nftables.Set{s.bridges, s.internal, s.masquerade4, s.masquerade6} {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		out[set.Name] = map[string]bool{}
		for _, e := range elements {
			out[set.Name][string(bytes.TrimRight(e.Key, "\x00"))] = true
		}
	}
	return out, nil
}

func addLink(c *nftables.Conn, s *schema, n Network) error {
	key := ifname(n.Link)
	element := []nftables.SetElement{{Key: key}}
	if err := c.SetAddElements(s.bridges, element); err != nil {
		return err
	}
	if err := c.SetAddElements(s.intra, []nftables.SetElement{{Key: append(bytes.Clone(key), key...)}}); err != nil {
		return err
	}
	for set, wanted := range map[*nftables.Set]bool{s.internal: n.Internal, s.masquerade4: n.Masquerade4 && !n.Internal, s.masquerade6: n.Masquerade6 && !n.Internal} {
		if !wanted {
			continue
		}
		if err := c.SetAddElements(set, element); err != nil {
			return err
		}
	}
	return nil
}

func removeLink(c *nftables.Conn, s *schema, link string, have map[string]map[string]bool) error {
	key := ifname(link)
	if have[s.bridges.Name][link] {
		if err := c.SetDeleteElements(s.intra, []nftables.SetElement{{Key: append(bytes.Clone(key), key...)}}); err != nil {
			return err
		}
	}
	for _, set := range []*nftables.Set{s.bridges, s.internal, s.masquerade4, s.masquerade6} {
		if !have[set.Name][link] {
			continue
		}
		if err := c.SetDeleteElements(set, []nftables.SetElement{{Key: key}}); err != nil {
			return err
		}
	}
	return nil
}

// Map adds and removes published ports in one transaction. Adding what is there with the same target and removing what
// is not there are no errors; adding replaces a mapping of the same host address, port and protocol.
// The table must exist (AddNetworks): else unix.ENOENT is wrapped.
func (t *Table) Map(add, remove []Mapping) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// The common case is that the kernel has what we think it has: no listing, so the cost follows the change.
	err := t.transaction(func(c *nftables.Conn, s *schema) error { return change(c, s, add, remove) })
	if err == nil {
		return nil
	}
	have, readErr := t.mappings()
	if readErr != nil {
		if errors.Is(readErr, unix.ENOENT) && len(add) == 0 {
			return nil
		}
		return fmt.Errorf("published ports: %w", errors.Join(err, readErr))
	}
	index := map[Mapping]Mapping{}
	for _, m := range have {
		index[m.key()] = m
	}
	var missing, gone []Mapping
	for _, m := range remove {
		if old, ok := index[m.key()]; ok {
			gone = append(gone, old)
			delete(index, m.key())
		}
	}
	for _, m := range add {
		old, ok := index[m.key()]
		if ok && old.Target == m.Target {
			continue
		}
		if ok {
			gone = append(gone, old)
		}
		missing = append(missing, m)
	}
	if err := t.transaction(func(c *nftables.Conn, s *schema) error { return change(c, s, missing, gone) }); err != nil {
		return fmt.Errorf("published ports: %w", err)
	}
	return nil
}

func change(c *nftables.Conn, s *schema, add, remove []Mapping) error {
	bySet := func(list []Mapping, apply func(*nftables.Set, []nftables.SetElement) error) error {
		elements := map[*nftables.Set][]nftables.SetElement{}
		for _, m := range list {
			set, e, err := element(s, m)
			if err != nil {
				return err
			}
			elements[set] = append(elements[set], e)
		}
		for set, list := range elements {
			if err := apply(set, list); err != nil {
				return err
			}
		}
		return nil
	}
	if err := bySet(remove, c.SetDeleteElements); err != nil {
		return err
	}
	return bySet(add, c.SetAddElements)
}

// Mappings lists the published ports; none when the table is missing.
func (t *Table) Mappings() ([]Mapping, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out, err := t.mappings()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return out, err
}

func (t *Table) mappings() ([]Mapping, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	s := newSchema(t.name)
	if err := exists(c, s.bridges); err != nil {
		return nil, err
	}
	var out []Mapping
	for _, set := range []*nftables.Set{s.ports4, s.ports6, s.anyPort4, s.anyPort6} {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if m, ok := mapping(set, e); ok {
				out = append(out, m)
			}
		}
	}
	return out, nil
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// element lays a mapping out as the kernel has it: every part of a concatenation padded to four bytes.
func element(s *schema, m Mapping) (*nftables.Set, nftables.SetElement, error) {
	proto, ok := protocols[m.Protocol]
	if !ok {
		return nil, nftables.SetElement{}, fmt.Errorf("protocol %q cannot be published", m.Protocol)
	}
	var key, val []byte
	if m.Host.Addr().IsValid() {
		key = append(key, m.Host.Addr().AsSlice()...)
	}
	key = append(key, proto, 0, 0, 0)
	key = append(binary.BigEndian.AppendUint16(key, m.Host.Port()), 0, 0)
	val = append(val, m.Target.Addr().AsSlice()...)
	val = append(binary.BigEndian.AppendUint16(val, m.Target.Port()), 0, 0)

	set := s.anyPort6
	switch four := m.Target.Addr().Is4(); {
	case m.Host.Addr().IsValid() && m.Host.Addr().Is4() != four:
		return nil, nftables.SetElement{}, fmt.Errorf("cannot publish %s at %s: different address families", m.Target, m.Host)
	case m.Host.Addr().IsValid() && four:
		set = s.ports4
	case m.Host.Addr().IsValid():
		set = s.ports6
	case four:
		set = s.anyPort4
	}
	return set, nftables.SetElement{Key: key, Val: val, Comment: m.Owner}, nil
}

// mapping is the inverse of element.
func mapping(set *nftables.Set, e nftables.SetElement) (Mapping, bool) {
	if len(e.Key) < 8 || len(e.Val) < 8 {
		return Mapping{}, false
	}
	m := Mapping{Owner: e.Comment}
	host, rest := e.Key[:len(e.Key)-8], e.Key[len(e.Key)-8:]
	var hostAddr netip.Addr
	if len(host) > 0 {
		hostAddr, _ = netip.AddrFromSlice(host)
	}
	for name, number := range protocols {
		if number == rest[0] {
			m.Protocol = name
		}
	}
	m.Host = netip.AddrPortFrom(hostAddr, binary.BigEndian.Uint16(rest[4:6]))
	split := len(e.Val) - 4
	addr, ok := netip.AddrFromSlice(e.Val[:split])
	m.Target = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(e.Val[split:split+2]))
	return m, ok && m.Protocol != "" && strings.HasSuffix(set.Name, map[bool]string{true: "4", false: "6"}[addr.Is4()])
}
