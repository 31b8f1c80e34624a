package firewall

import "fmt"

// Observe tells in words what the kernel lacks of a network's rules; nothing when all is there.
func (t *Table) Observe(n Network) ([]string, error) {
	present, err := t.Present()
	if err != nil {
		return nil, fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	if !present {
		return []string{fmt.Sprintf("nftables table %s is missing", t.name)}, nil
	}
	have, err := t.Networks()
	if err != nil {
		return nil, err
	}
	var drift []string
	found := false
	for _, h := range have {
		if h.Link != n.Link {
			continue
		}
		found = true
		if h.Internal != n.Internal || h.Masquerade4 != (n.Masquerade4 && !n.Internal) || h.Masquerade6 != (n.Masquerade6 && !n.Internal) {
			drift = append(drift, fmt.Sprintf("nftables table %s has other rules for %s", t.name, n.Link))
		}
	}
	if !found {
		drift = append(drift, fmt.Sprintf("nftables table %s lacks %s", t.name, n.Link))
	}
	if read(forward4) == "0" {
		drift = append(drift, "IPv4 forwarding is off")
	}
	if n.IPv6 && read(forward6) == "0" {
		drift = append(drift, "IPv6 forwarding is off")
	}
	return drift, nil
}
