package none_test

import (
	"net/netip"
	"testing"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/none"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Factory{
		New:     func(testing.TB) netdriver.Driver { return none.Driver{} },
		Network: netdriver.Network{Name: "none", Driver: "none"},
		Refused: map[string]netdriver.Network{
			"a subnet":  {Name: "none", Driver: "none", Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.99.0.0/24")}}},
			"an option": {Name: "none", Driver: "none", Options: map[string]string{"mtu": "1500"}},
		},
		Sandboxes: true,
	})
}
