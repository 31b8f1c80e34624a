package bridge

import (
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

// introduce tells the host under which hardware address a container is. Who called while its link was missing has the host's
// kernel ask for it once a second: what waits for the answer goes on at once. Where that fails, the table being full, say, it asks.
func introduce(h *netlink.Handle, bridge int, e netdriver.Endpoint) {
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if !p.IsValid() {
			continue
		}
		family := netlink.FAMILY_V4
		if p.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		_ = h.NeighSet(&netlink.Neigh{LinkIndex: bridge, Family: family, State: netlink.NUD_STALE, IP: p.Addr().AsSlice(), HardwareAddr: macOf(e)})
	}
}
