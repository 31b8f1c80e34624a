package firewall_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/firewall"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

func BenchmarkRedirect(b *testing.B) {
	for range b.N {
		b.StopTimer()
		n := drivertest.NewNamespace(b)
		f, err := os.Open(n.Path())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := firewall.Redirect(f, netip.MustParseAddrPort("127.0.0.11:53"), 61053); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
