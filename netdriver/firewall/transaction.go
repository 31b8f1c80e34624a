package firewall

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// numbering guards the library's process-wide counter of set numbers.
var numbering sync.Mutex

// transaction sends what fn adds as one all-or-nothing change.
func (t *Table) transaction(fn func(*nftables.Conn, *schema) error) error {
	c, err := nftables.New(nftables.WithSockOptions(roomy, t.own.note))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	if err := fn(c, newSchema(t.name)); err != nil {
		return err
	}
	return c.Flush()
}

// largest is the size of a transaction in bytes up to which the kernel takes it: it is sent as one datagram. (Published
// ports of 500 containers, all balanced, are 6 MB.)
const largest = 32 << 20

func roomy(c *netlink.Conn) error { return c.SetWriteBuffer(largest) }

// sockets are the kernel's numbers of those that transactions were sent by lately: it announces each change with that of
// whoever made it.
type sockets struct {
	mu   sync.Mutex
	last [128]uint32
	next int
}

func (s *sockets) note(c *netlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var address unix.Sockaddr
	ctlErr := raw.Control(func(fd uintptr) { address, err = unix.Getsockname(int(fd)) })
	if err = errors.Join(ctlErr, err); err != nil {
		return err
	}
	if a, ok := address.(*unix.SockaddrNetlink); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last[s.next%len(s.last)] = a.Pid
		s.next++
	}
	return nil
}

// Own tells whether a change was announced with the number of one of this table's sockets.
func (t *Table) Own(port uint32) bool {
	t.own.mu.Lock()
	defer t.own.mu.Unlock()
	return port != 0 && slices.Contains(t.own.last[:], port)
}

// exists is nil when the set does, unix.ENOENT when it or its table does not. (The library's listing of elements hides
// the system's error.)
func exists(c *nftables.Conn, set *nftables.Set) error {
	_, err := c.GetSetByName(set.Table, set.Name)
	return err
}

// ensure makes the table, or brings the rules of an older revision up to date, and switches forwarding on.
func (t *Table) ensure(networks []Network) error {
	if !t.built {
		words, err := t.altered()
		if err != nil {
			return err
		}
		t.built = words == ""
	}
	var four, six bool
	for _, n := range networks {
		four = true
		six = six || n.IPv6
	}
	if !t.built {
		if err := t.build(); err != nil {
			return fmt.Errorf("%w (the kernel's nf_tables is needed, with nat, masq, fib and ct)", err)
		}
		t.built = true
	}
	return t.enableForwarding(four, six)
}

// build makes the table, or the rules in it anew; elements stay.
func (t *Table) build() error {
	markers, err := t.markers()
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	present := err == nil
	strays, err := t.strayChains()
	if err != nil {
		return err
	}
	rules := func(c *nftables.Conn, s *schema) error {
		numbering.Lock()
		defer numbering.Unlock()
		c.AddTable(s.table)
		for _, set := range s.sets() {
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
		}
		addChains(c, s)
		return nil
	}
	err = t.transaction(func(c *nftables.Conn, s *schema) error {
		c.AddTable(s.table)
		for _, set := range markers { // by which a daemon of that revision would take the table for complete
			c.DelSet(set)
		}
		if err := rules(c, s); err != nil {
			return err
		}
		for _, ch := range strays {
			c.DelChain(ch)
		}
		return nil
	})
	if err != nil && present {
		// Somebody made a chain or a set of ours into something else. The elements go with it: they are missed, and entered again.
		err = t.transaction(func(c *nftables.Conn, s *schema) error {
			c.DelTable(s.table)
			return rules(c, s)
		})
	}
	if err != nil {
		return err
	}
	return t.mark()
}

// strayChains are those in the table that are not of its rules.
func (t *Table) strayChains() (out []*nftables.Chain, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, ch := range all {
		if ch.Table.Name == t.name && !slices.Contains(chains, ch.Name) {
			out = append(out, ch)
		}
	}
	return out, nil
}

// drop removes the table and restores forwarding.
func (t *Table) drop() error {
	t.forget()
	return t.withForwardingLock(func() error {
		changed, err := t.changedSettings()
		if errors.Is(err, unix.ENOENT) {
			changed, err = map[string]bool{}, nil // never made, or flushed
		}
		if err != nil {
			return fmt.Errorf("nftables table %s: %w", t.name, err)
		}
		for _, name := range t.noted {
			changed[name] = true
		}
		// Settings first: a crash in between leaves the table, and with it the memory of what to put back.
		if err := t.restoreForwarding(changed); err != nil {
			return err
		}
		err = t.transaction(func(c *nftables.Conn, s *schema) error {
			c.DelTable(s.table)
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove nftables table %s: %w", t.name, err)
		}
		t.noted = nil
		return nil
	})
}

// Present tells whether the table is in the kernel with the current rules, as they were made.
func (t *Table) Present() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	words, err := t.altered()
	return words == "" && err == nil, err
}
