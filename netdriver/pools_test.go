package netdriver

import (
	"net/netip"
	"testing"
)

func TestAChosenSubnetHasRoomForTwiceTheContainers(t *testing.T) {
	pools := []Pool{{netip.MustParsePrefix("10.210.0.0/16"), 24}, {netip.MustParsePrefix("10.9.0.0/23"), 24}}
	inTheWay := usedPrefix{netip.MustParsePrefix("10.210.4.0/24"), "another network"}
	for containers, want := range map[int]string{
		0:      "10.210.0.0/24",
		126:    "10.210.0.0/24",
		127:    "10.210.0.0/23",
		500:    "10.210.0.0/22",
		1000:   "10.210.8.0/21", // the first is taken in part
		100000: "10.9.0.0/23",   // larger than any pool: all that one has
	} {
		got, err := firstFree(withRoom(pools, containers), true, []usedPrefix{inTheWay})
		if err != nil || got.String() != want {
			t.Errorf("%d containers: %v %v, want %s", containers, got, err, want)
		}
	}
	if six := withRoom([]Pool{uniqueLocal("x")}, 1000); six[0].Size != 64 {
		t.Errorf("IPv6 networks are of size %d", six[0].Size)
	}
}
