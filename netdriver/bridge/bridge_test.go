package bridge_test

import (
	"net/netip"
	"testing"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/bridge"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/firewall"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

func network(options map[string]string) netdriver.Network {
	return netdriver.Network{
		Name: "net", Driver: "bridge", IPv4: true, IPv6: true, Options: options,
		Subnets: []netdriver.Subnet{
			{Prefix: netip.MustParsePrefix("10.99.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.1")},
			{Prefix: netip.MustParsePrefix("fd99::/64"), Gateway: netip.MustParseAddr("fd99::1")},
		},
	}
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Factory{
		New: func(testing.TB) netdriver.Driver {
			return bridge.New("/var/lib/stack-test", firewall.Open("test"))
		},
		Network: network(nil), Sandboxes: true, Links: true,
		Refused: map[string]netdriver.Network{
			"no address family":       {Name: "net", Driver: "bridge"},
			"unknown option":          network(map[string]string{"com.example.colour": "red"}),
			"MTU that is no number":   network(map[string]string{"com.docker.network.driver.mtu": "big"}),
			"MTU that is too small":   network(map[string]string{"com.docker.network.driver.mtu": "10"}),
			"bridge name too long":    network(map[string]string{"com.docker.network.bridge.name": "a-name-of-16-chr"}),
			"bridge name with slash":  network(map[string]string{"com.docker.network.bridge.name": "a/b"}),
			"neither true nor false":  network(map[string]string{"com.docker.network.bridge.enable_icc": "perhaps"}),
			"another gateway mode":    network(map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "routed"}),
			"host binding of no kind": network(map[string]string{"com.docker.network.bridge.host_binding_ipv4": "fd00::1"}),
			"prefix too long":         network(map[string]string{"com.docker.network.container_iface_prefix": "interface-number"}),
		},
	})
	drivertest.NoTables(t)
}
