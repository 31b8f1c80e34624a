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
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Table is a handle on one daemon's table. Making one costs nothing. Methods are safe for concurrent use.
type Table struct {
	name string
	own  sockets

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
	// Virtual addresses that the host answers on the network: see Answer.
	Virtual []netip.Addr
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
			if err := answer(s, n.Virtual, c.SetAddElements); err != nil {
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
	if have[s.intra.Name][link] {
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
