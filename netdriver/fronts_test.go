package netdriver

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stack-run/stack/netdriver/firewall"
)

func backends(readiness ...Readiness) (out []backend) {
	for i, r := range readiness {
		id := fmt.Sprintf("c%03d", i)
		m := firewall.Mapping{
			Protocol: "tcp", Host: netip.AddrPortFrom(netip.Addr{}, 80), Owner: id,
			Target: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
		}
		out = append(out, backend{id, m, r})
	}
	return out
}

func counts(list []firewall.Mapping) map[string]int {
	out := map[string]int{}
	for _, m := range list {
		out[m.Owner]++
	}
	return out
}

func TestSlotsAreDealtEvenlyAndStay(t *testing.T) {
	var have []firewall.Mapping
	for _, n := range []int{1, 2, 3, 7, 64, 3, 100, 2, 1, 0, 5} {
		want := spread(backends(make([]Readiness, n)...), have)
		if n < 2 {
			if len(want) != n || n == 1 && want[0].Slot != 0 {
				t.Errorf("%d backends: %d mappings", n, len(want))
			}
			have = want
			continue
		}
		slots := map[int]bool{}
		for _, m := range want {
			slots[m.Slot] = true
		}
		chosen := min(n, firewall.Slots)
		got := counts(want)
		if len(want) != firewall.Slots || len(slots) != firewall.Slots || len(got) != chosen {
			t.Errorf("%d backends: %d mappings, %d slots, %d owners", n, len(want), len(slots), len(got))
		}
		for id, c := range got {
			if c < firewall.Slots/chosen || c > firewall.Slots/chosen+1 {
				t.Errorf("%d backends: %s has %d slots", n, id, c)
			}
		}
		moved := 0
		before := map[int]string{}
		for _, m := range have {
			before[m.Slot] = m.Owner
		}
		for _, m := range want {
			if before[m.Slot] != m.Owner {
				moved++
			}
		}
		// What must move: the shares of those that came, or of those that went.
		least := 0
		for id, c := range got {
			least += max(0, c-counts(have)[id])
		}
		if len(have) > 1 && moved > least {
			t.Errorf("%d backends after %d: %d slots moved, %d had to", n, len(counts(have)), moved, least)
		}
		have = want
	}
}

func TestWhoIsChosen(t *testing.T) {
	for situation, c := range map[string]struct {
		all  []backend
		want int
	}{
		"those that serve":               {backends(Serving, Standby, Drained, Serving), 2},
		"none serves":                    {backends(Standby, Drained, Standby, Standby), 3},
		"all are drained":                {backends(Drained, Drained), 0},
		"none is there":                  {nil, 0},
		"one serves and others stand by": {backends(Standby, Serving, Standby), 1},
	} {
		if got := choose(c.all); len(got) != c.want {
			t.Errorf("%s: %+v", situation, got)
		}
	}
}
