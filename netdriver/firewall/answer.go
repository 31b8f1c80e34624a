package firewall

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
)

// Answer enters virtual addresses of the host and takes others out. Connections to one that no container stands behind
// (see Map) are refused; without that they would reach whatever program of the host has the port. Entering what is there and
// removing what is not are no errors.
func (t *Table) Answer(add, remove []netip.Addr) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.transaction(func(c *nftables.Conn, s *schema) error {
		// Added first: the kernel refuses to remove what is not there.
		if err := answer(s, append(append([]netip.Addr(nil), add...), remove...), c.SetAddElements); err != nil {
			return err
		}
		return answer(s, remove, c.SetDeleteElements)
	})
	if err != nil {
		return fmt.Errorf("virtual addresses: %w", err)
	}
	return nil
}

func answer(s *schema, addrs []netip.Addr, apply func(*nftables.Set, []nftables.SetElement) error) error {
	var four, six []nftables.SetElement
	for _, a := range addrs {
		e := nftables.SetElement{Key: a.AsSlice()}
		if a.Is4() {
			four = append(four, e)
		} else {
			six = append(six, e)
		}
	}
	for _, part := range []struct {
		set  *nftables.Set
		list []nftables.SetElement
	}{{s.answered4, four}, {s.answered6, six}} {
		if len(part.list) == 0 {
			continue
		}
		if err := apply(part.set, part.list); err != nil {
			return err
		}
	}
	return nil
}
