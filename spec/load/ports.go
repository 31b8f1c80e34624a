package load

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// ports are one entry for each target port: compose-go has expanded ranges of the short form.
func (c *converter) ports(at []string, s types.ServiceConfig) []spec.Port {
	var all []spec.Port
	for _, p := range s.Ports {
		here := c.portPath(at, p)
		if p.Target == 0 || p.Target > 65535 {
			c.refuse(here, "use 1 to 65535", "invalid container port %d", p.Target)
			continue
		}
		if !validPublished(p.Published) {
			c.refuse(here, "use a port from 1 to 65535, or a range such as 8000-8010", "invalid published port %q", p.Published)
			continue
		}
		switch p.Protocol {
		case "", "tcp", "udp", "sctp":
		default:
			c.refuse(here, "use tcp, udp or sctp", "invalid protocol %q", p.Protocol)
			continue
		}
		port := spec.Port{
			HostIP: p.HostIP, Published: p.Published, Target: uint16(p.Target), Protocol: p.Protocol, Mode: p.Mode, Name: p.Name,
		}
		if port.Protocol == "" {
			port.Protocol = "tcp"
		}
		all = append(all, port)
	}
	return all
}

// portPath finds the entry in the file that a port came from: by its number, since ranges and merges move the entries.
func (c *converter) portPath(at []string, p types.ServicePortConfig) []string {
	path := join(at, "ports")
	list := c.tree.root.get(path...)
	if list == nil {
		return path
	}
	for i, item := range list.items {
		texts := item.texts()
		if len(texts) == 1 {
			parsed, err := types.ParsePortConfig(texts[0])
			if err == nil && slices.ContainsFunc(parsed, func(q types.ServicePortConfig) bool { return samePort(p, q) }) {
				return join(path, strconv.Itoa(i))
			}
			continue
		}
		target, published := item.field("target").texts(), item.field("published").texts()
		if len(target) == 1 && target[0] == fmt.Sprint(p.Target) && (len(published) == 0 || published[0] == p.Published) {
			return join(path, strconv.Itoa(i))
		}
	}
	return path
}

func samePort(p, q types.ServicePortConfig) bool {
	return p.HostIP == q.HostIP && p.Published == q.Published && p.Target == q.Target && p.Protocol == q.Protocol
}

func validPublished(s string) bool {
	if s == "" {
		return true
	}
	low, high, isRange := strings.Cut(s, "-")
	a, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return false
	}
	if !isRange {
		return true
	}
	b, err := strconv.ParseUint(high, 10, 16)
	return err == nil && a <= b
}

// expose are "port/protocol", ranges expanded.
func (c *converter) expose(at []string, list types.StringOrNumberList) []string {
	var all []string
	for i, entry := range list {
		ports, protocol, ok := strings.Cut(entry, "/")
		if !ok {
			protocol = "tcp"
		}
		low, high, isRange := strings.Cut(ports, "-")
		if !isRange {
			high = low
		}
		a, errLow := strconv.ParseUint(low, 10, 16)
		b, errHigh := strconv.ParseUint(high, 10, 16)
		if errLow != nil || errHigh != nil || a == 0 || a > b {
			c.refuse(join(at, "expose", strconv.Itoa(i)), `write a port or a range, such as "8080" or "3000-3005/udp"`, "invalid port %q", entry)
			continue
		}
		for p := a; p <= b; p++ {
			all = append(all, fmt.Sprintf("%d/%s", p, strings.ToLower(protocol)))
		}
	}
	return all
}

// sharedPorts refuses a port of the host that two services want, or one service twice.
func (c *converter) sharedPorts() {
	type holder struct {
		ip      string
		service string
	}
	held := map[string][]holder{}
	for _, name := range slices.Sorted(maps.Keys(c.stack.Services)) {
		s := c.stack.Services[name]
		at := []string{"services", name}
		if s.Replicas == 0 || s.NetworkMode != "" && s.NetworkMode != "bridge" {
			continue // publishes nothing
		}
		for _, p := range s.Ports {
			if p.Published == "" || strings.Contains(p.Published, "-") {
				continue // the host has a choice
			}
			here := c.portPath(at, types.ServicePortConfig{HostIP: p.HostIP, Published: p.Published, Target: uint32(p.Target), Protocol: p.Protocol})
			key := p.Published + "/" + p.Protocol
			for _, h := range held[key] {
				if overlap(h.ip, p.HostIP) {
					c.refuse(here, "publish another port", "the port %s of the host is published by the service %s already", key, h.service)
					break
				}
			}
			held[key] = append(held[key], holder{p.HostIP, name})
		}
	}
}

// overlap tells whether a port can't be bound on both addresses: the same one, or all addresses of the family.
func overlap(a, b string) bool {
	if a == b || a == "" || b == "" {
		return true
	}
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil || x.Is4() != y.Is4() {
		return false
	}
	return x.IsUnspecified() || y.IsUnspecified() || x == y
}
