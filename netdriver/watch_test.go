package netdriver_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

// unannounced are damages that the kernel keeps to itself.
var unannounced = []string{"a setting of the bridge", "a container's names were removed"}

// within bounds the wait for what must come.
const within = 10 * time.Second

func TestWhatOthersDoIsTold(t *testing.T) {
	shared := newGround(t)
	var took []time.Duration
	for situation, c := range damages {
		if slices.Contains(unannounced, situation) {
			continue
		}
		t.Run(situation, func(t *testing.T) {
			g := &ground{shared.daemon, t, shared.net, shared.a, shared.b, shared.client}
			watching, stop := context.WithCancel(ctx)
			told, err := g.Watch(watching)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := c.do(g); err != nil {
				t.Fatal(err)
			}
			network, container := c.network == "", c.container == ""
			for giveUp := time.After(within); !network || !container; {
				select {
				case d := <-told:
					text := strings.Join(d.Words, "; ")
					network = network || d.Network == "n" && containsOne(text, c.network)
					container = container || d.ContainerID == g.a.id && containsOne(text, c.container)
				case <-giveUp:
					t.Fatalf("told of the network: %v, of the container: %v", network, container)
				}
			}
			took = append(took, time.Since(start))
			stop()
			for range told { // until it is closed
			}
			g.repair()
			g.works("after the repair")
		})
	}
	slices.Sort(took)
	t.Logf("told after %s to %s", took[0], took[len(took)-1])
}

func TestWhatTheDaemonDoesItselfIsNotTold(t *testing.T) {
	g := newGround(t)
	told, err := g.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.network(v4("other"))
	g.service, g.group = "svc", "stack/web"
	late := g.run("late", []string{"n", "other"}, netdriver.Port{HostPort: 7400, Target: 80, Protocol: "tcp"})
	if err := g.SetReadiness(ctx, map[string]netdriver.Readiness{"id-a": netdriver.Drained}); err != nil {
		t.Fatal(err)
	}
	g.repair()
	if err := g.Unpublish(ctx, []string{late.id}); err != nil {
		t.Fatal(err)
	}
	if err := g.Disconnect(ctx, []netdriver.Sandbox{late.sandbox}); err != nil {
		t.Fatal(err)
	}
	g.Release(late.id)
	if err := g.Remove(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(g.port(g.client)); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-told:
		if d.ContainerID != g.client.id {
			t.Errorf("told %+v", d)
		}
	case <-time.After(within):
		t.Error("not told of what somebody else did")
	}
}

func TestAContainerThatEndsIsNoDrift(t *testing.T) {
	g := newGround(t)
	told, err := g.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := g.portName(g.client)
	g.client.End() // nothing listens in it: the namespace ends
	waitUntil(t, "the kernel has removed its link", func() bool {
		_, err := netlink.LinkByName(name)
		return err != nil
	})
	if err := netlink.LinkDel(g.port(g.b)); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case d := <-told:
			if d.ContainerID == g.b.id {
				return
			}
			t.Errorf("told %+v", d)
		case <-time.After(within):
			t.Fatal("not told of what somebody else did")
		}
	}
}

// waitUntil looks until something is so.
func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	for giveUp := time.Now().Add(within); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("not so after %s: %s", within, what)
		}
	}
}
