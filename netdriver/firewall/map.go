package firewall

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ErrNoTable says that the daemon's whole table is missing: others flushed it, or the host was restarted.
var ErrNoTable = errors.New("the nftables table is missing")

// Map adds and removes published ports in one transaction. Adding what is there with the same target and removing what
// is not there are no errors; adding replaces a mapping of the same host address, port and protocol.
// The table must exist (AddNetworks): else ErrNoTable is wrapped, and unix.ENOENT.
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
		if errors.Is(readErr, unix.ENOENT) {
			return fmt.Errorf("published ports: %w: %w", ErrNoTable, readErr)
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

// perMessage bounds the elements in one netlink message, whose length has 16 bits.
const perMessage = 256

func change(c *nftables.Conn, s *schema, add, remove []Mapping) error {
	bySet := func(list []Mapping, apply func(*nftables.Set, []nftables.SetElement) error) error {
		elements := map[kind][]nftables.SetElement{}
		for _, m := range list {
			e, err := element(m)
			if err != nil {
				return err
			}
			k := kindOf(m)
			elements[k] = append(elements[k], e)
		}
		for k, list := range elements {
			for part := range slices.Chunk(list, perMessage) {
				if err := apply(s.maps[k], part); err != nil {
					return err
				}
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
	for k, set := range s.maps {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if m, ok := mapping(k, e); ok {
				out = append(out, m)
			}
		}
	}
	return out, nil
}
