package firewall

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
)

// Hold makes the kernel drop new connections to the fronts for d, and no longer, whatever becomes of the daemon: their
// clients' kernels send again (a SYN after a second), so a container that is replaced meanwhile shows as a pause, not as a
// refusal. Connections that are established go on. Holding again begins anew.
func (t *Table) Hold(fronts []Mapping, d time.Duration) error {
	return t.hold(fronts, d)
}

// Unhold ends it; fronts that are not held are no error.
func (t *Table) Unhold(fronts []Mapping) error { return t.hold(fronts, 0) }

func (t *Table) hold(fronts []Mapping, d time.Duration) error {
	if len(fronts) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.transaction(func(c *nftables.Conn, s *schema) error {
		bySet := map[*nftables.Set][]nftables.SetElement{}
		for _, m := range fronts {
			set, key := s.heldElement(m)
			if !slices.ContainsFunc(bySet[set], func(e nftables.SetElement) bool { return slices.Equal(e.Key, key) }) {
				bySet[set] = append(bySet[set], nftables.SetElement{Key: key, Timeout: d})
			}
		}
		for set, elements := range bySet {
			for part := range slices.Chunk(elements, perMessage) {
				// An element's time can't be changed on all kernels, and one that is not there can't be removed: it is
				// added, removed, and added with its time.
				if err := c.SetAddElements(set, untimed(part)); err != nil {
					return err
				}
				if err := c.SetDeleteElements(set, untimed(part)); err != nil {
					return err
				}
				if d <= 0 {
					continue
				}
				if err := c.SetAddElements(set, part); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("hold connections: %w", err)
	}
	return nil
}

func untimed(list []nftables.SetElement) []nftables.SetElement {
	out := slices.Clone(list)
	for i := range out {
		out[i].Timeout = 0
	}
	return out
}

func (s *schema) heldElement(m Mapping) (*nftables.Set, []byte) {
	six := m.Target.Addr().Is6()
	addr := m.Host.Addr()
	switch {
	case m.Protocol == "" && six:
		return s.heldVirtual6, addr.AsSlice()
	case m.Protocol == "":
		return s.heldVirtual, addr.AsSlice()
	}
	key := portKey(protocols[m.Protocol], m.Host.Port())
	switch {
	case !addr.IsValid():
		return s.held, key
	case six:
		return s.heldHost6, append(addr.AsSlice(), key...)
	}
	return s.heldHost, append(addr.AsSlice(), key...)
}
