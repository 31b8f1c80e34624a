package firewall

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Observe tells in words what the kernel lacks of a network's rules; nothing when all is there.
func (t *Table) Observe(n Network) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	words, err := t.altered()
	if err != nil {
		return nil, fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	if words != "" {
		return []string{words}, nil
	}
	have, err := t.entered()
	if errors.Is(err, unix.ENOENT) { // it went just now
		return []string{fmt.Sprintf("nftables table %s is missing", t.name)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	key := string(ifname(n.Link))
	var drift []string
	switch {
	case !have["bridges"][key] || !have["intra"][key+key]:
		drift = append(drift, fmt.Sprintf("nftables table %s lacks %s", t.name, n.Link))
	case have["internal"][key] != n.Internal, have["masquerade4"][key] != (n.Masquerade4 && !n.Internal), have["masquerade6"][key] != (n.Masquerade6 && !n.Internal):
		drift = append(drift, fmt.Sprintf("nftables table %s has other rules for %s", t.name, n.Link))
	}
	for _, a := range n.Virtual {
		if !have["answered4"][string(a.AsSlice())] && !have["answered6"][string(a.AsSlice())] {
			drift = append(drift, fmt.Sprintf("nftables table %s lacks the virtual address %s", t.name, a))
		}
	}
	if read(forward4) == "0" {
		drift = append(drift, "IPv4 forwarding is off")
	}
	if n.IPv6 && read(forward6) == "0" {
		drift = append(drift, "IPv6 forwarding is off")
	}
	return drift, nil
}

// entered reads what is known of networks: set name to keys. unix.ENOENT when the table is missing.
func (t *Table) entered() (map[string]map[string]bool, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	s := newSchema(t.name)
	if err := exists(c, s.bridges); err != nil {
		return nil, err
	}
	out := map[string]map[string]bool{}
	for _, set := range []*nftables.Set{s.bridges, s.internal, s.intra, s.masquerade4, s.masquerade6, s.answered4, s.answered6} {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		out[set.Name] = map[string]bool{}
		for _, e := range elements {
			out[set.Name][string(e.Key)] = true
		}
	}
	return out, nil
}

// links reads the sets of links: set name to link names.
func (t *Table) links() (map[string]map[string]bool, error) {
	have, err := t.entered()
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]bool{}
	for _, set := range []string{"bridges", "internal", "intra", "masquerade4", "masquerade6"} {
		out[set] = map[string]bool{}
		for key := range have[set] {
			out[set][string(bytes.TrimRight([]byte(key[:unix.IFNAMSIZ]), "\x00"))] = true // of a pair, either
		}
	}
	return out, nil
}
