package host_test

import (
	"net/netip"
	"testing"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/host"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Factory{
		New:     func(testing.TB) netdriver.Driver { return host.Driver{} },
		Network: netdriver.Network{Name: "host", Driver: "host"},
		Refused: map[string]netdriver.Network{
			"a subnet":  {Name: "host", Driver: "host", Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.99.0.0/24")}}},
			"an option": {Name: "host", Driver: "host", Options: map[string]string{"mtu": "1500"}},
		},
		Sandboxes: false,
	})
}
