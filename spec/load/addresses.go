package load

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/stack-run/stack/spec"
)

// checkAddresses refuses what is no address where one must be, and addresses outside of the network they are for.
func (c *converter) checkAddresses(at []string, s *spec.Service) {
	for key, a := range s.Networks {
		here := join(at, "networks", key)
		c.checkStatic(join(here, "ipv4_address"), a.IPv4, netip.Addr.Is4, c.stack.Networks[key])
		c.checkStatic(join(here, "ipv6_address"), a.IPv6, netip.Addr.Is6, c.stack.Networks[key])
		c.checkMAC(join(here, "mac_address"), a.MacAddress)
	}
	c.checkMAC(join(at, "mac_address"), s.MacAddress)
	for i, server := range s.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			c.refuse(join(at, "dns", strconv.Itoa(i)), "", "the DNS server %q is not an IP address", server)
		}
	}
	for _, host := range s.ExtraHosts {
		name, address, _ := strings.Cut(host, "=")
		if _, err := netip.ParseAddr(address); err != nil && address != "host-gateway" {
			c.refuse(c.hostPath(join(at, "extra_hosts"), name), "write name:address", "%q is neither an IP address nor host-gateway", address)
		}
	}
}

// hostPath finds the entry of a host in the file: the stack has them sorted.
func (c *converter) hostPath(path []string, name string) []string {
	list := c.tree.root.get(path...)
	if list == nil || list.kind == mapping {
		return join(path, name)
	}
	for i, item := range list.items {
		if strings.HasPrefix(item.text, name) {
			return join(path, strconv.Itoa(i))
		}
	}
	return path
}

// checkStatic checks a fixed address. Only a network with a subnet of the user's choice can promise one.
func (c *converter) checkStatic(path []string, text string, family func(netip.Addr) bool, network *spec.Network) {
	if text == "" {
		return
	}
	address, err := netip.ParseAddr(text)
	if err != nil || !family(address) {
		c.refuse(path, "", "%q is not an address of this kind", text)
		return
	}
	if network == nil || network.External {
		return // what subnet it has shows when it is there
	}
	for _, pool := range network.IPAM {
		if subnet, err := netip.ParsePrefix(pool.Subnet); err == nil && subnet.Contains(address) {
			return
		}
	}
	c.refuse(path, "give the network an ipam.config with a subnet that has it", "no subnet of the network %q has the address %s", network.Key, text)
}

func (c *converter) checkMAC(path []string, text string) {
	if text == "" {
		return
	}
	if mac, err := net.ParseMAC(text); err != nil || len(mac) != 6 {
		c.refuse(path, "write it like 02:42:ac:11:00:02", "%q is not a MAC address", text)
	}
}
