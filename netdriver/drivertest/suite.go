package drivertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

// Factory tells the suite about a driver.
type Factory struct {
	// New gives the driver of one daemon; each call plays a restart of that daemon.
	New func(testing.TB) netdriver.Driver
	// Network that the driver can make, complete as Ensure would make it: name, subnets, gateways.
	Network netdriver.Network
	// Refused are networks that it can't make.
	Refused map[string]netdriver.Network
	// Sandboxes: containers on the network have network namespaces of their own.
	Sandboxes bool
	// Links: the driver puts an interface into each sandbox, and the sandboxes of a network reach each other.
	Links bool
}

// Run is what every driver must do: the protocol of netdriver.Driver. Call it below drivertest.Main.
func Run(t *testing.T, f Factory) {
	ctx := context.Background()
	t.Run("validate", func(t *testing.T) {
		d := f.New(t)
		if err := d.Validate(f.Network); err != nil {
			t.Errorf("a good network is refused: %v", err)
		}
		for situation, n := range f.Refused {
			if err := d.Validate(n); !errors.Is(err, netdriver.ErrUnsupported) {
				t.Errorf("%s: %v, expected ErrUnsupported", situation, err)
			}
		}
	})
	t.Run("what was never made is removed without error", func(t *testing.T) {
		d := f.New(t)
		if err := d.Remove(ctx, f.Network); err != nil {
			t.Error(err)
		}
		gone := netdriver.Sandbox{ContainerID: "gone", Netns: "/proc/self/fd/none", Endpoints: []netdriver.Endpoint{endpoint(f, "gone", 9)}}
		if err := d.Disconnect(ctx, f.Network, []netdriver.Sandbox{gone}); err != nil {
			t.Error(err)
		}
	})
	t.Run("made twice, observed, removed twice", func(t *testing.T) {
		before := linkNames(t)
		n := f.Network
		for range 2 {
			if err := f.New(t).Create(ctx, &n); err != nil {
				t.Fatal(err)
			}
			drift, err := f.New(t).Observe(ctx, n)
			if err != nil || len(drift) > 0 {
				t.Errorf("observed right after it was made: %q, %v", drift, err)
			}
		}
		for range 2 {
			if err := f.New(t).Remove(ctx, n); err != nil {
				t.Fatal(err)
			}
		}
		if after := linkNames(t); !slices.Equal(before, after) {
			t.Errorf("links before %v, after %v", before, after)
		}
		drift, err := f.New(t).Observe(ctx, n)
		if err != nil || f.Links != (len(drift) > 0) {
			t.Errorf("observed after it was removed: %q, %v", drift, err)
		}
	})
	if !f.Sandboxes {
		t.Run("sandboxes are refused", func(t *testing.T) {
			err := f.New(t).Connect(ctx, f.Network, []netdriver.Sandbox{{ContainerID: "a", Netns: NewNamespace(t).Path()}})
			if !errors.Is(err, netdriver.ErrUnsupported) {
				t.Errorf("%v, expected ErrUnsupported", err)
			}
		})
		return
	}
	t.Run("connected twice, disconnected twice", func(t *testing.T) { f.connects(t) })
	t.Run("removed under connected sandboxes", func(t *testing.T) { f.removesUnderSandboxes(t) })
	t.Run("a sandbox that is gone leaves nothing", func(t *testing.T) { f.failsClean(t) })
	if _, ok := f.New(t).(netdriver.SandboxObserver); ok && f.Links {
		t.Run("what is missing of sandboxes is told, and made again", func(t *testing.T) { f.mends(t) })
	}
	if _, ok := f.New(t).(netdriver.Answerer); ok {
		t.Run("virtual addresses are answered", func(t *testing.T) { f.answers(t) })
	}
}

func (f Factory) connects(t *testing.T) {
	ctx := context.Background()
	n := f.create(t)
	before := linkNames(t)
	spaces, sandboxes := f.sandboxes(t, 3)
	for range 2 {
		if err := f.New(t).Connect(ctx, n, sandboxes); err != nil {
			t.Fatal(err)
		}
	}
	for i, space := range spaces {
		if has := interfaces(t, space); f.Links != slices.Contains(has, "eth0") {
			t.Errorf("sandbox %d has the interfaces %v", i, has)
		}
	}
	if f.Links {
		f.reaches(t, spaces[0], sandboxes[1], spaces[1])
	}
	for range 2 {
		if err := f.New(t).Disconnect(ctx, n, sandboxes[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if has := interfaces(t, spaces[0]); slices.Contains(has, "eth0") {
		t.Errorf("disconnected sandbox still has %v", has)
	}
	if f.Links {
		f.reaches(t, spaces[2], sandboxes[1], spaces[1])
	}
	if err := f.New(t).Disconnect(ctx, n, sandboxes); err != nil {
		t.Fatal(err)
	}
	if after := linkNames(t); !slices.Equal(before, after) {
		t.Errorf("links before %v, after %v", before, after)
	}
}

func (f Factory) removesUnderSandboxes(t *testing.T) {
	before := linkNames(t)
	n := f.create(t)
	spaces, sandboxes := f.sandboxes(t, 1)
	if err := f.New(t).Connect(context.Background(), n, sandboxes); err != nil {
		t.Fatal(err)
	}
	if err := f.New(t).Remove(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	if has := interfaces(t, spaces[0]); slices.Contains(has, "eth0") {
		t.Errorf("sandbox still has %v", has)
	}
	if after := linkNames(t); !slices.Equal(before, after) {
		t.Errorf("links before %v, after %v", before, after)
	}
}

func (f Factory) failsClean(t *testing.T) {
	n := f.create(t)
	before := linkNames(t)
	_, sandboxes := f.sandboxes(t, 1)
	sandboxes[0].Netns = "/proc/self/fd/none"
	err := f.New(t).Connect(context.Background(), n, sandboxes)
	if f.Links != (err != nil) {
		t.Errorf("connecting a sandbox that is gone: %v", err)
	}
	if after := linkNames(t); !slices.Equal(before, after) {
		t.Errorf("links before %v, after %v", before, after)
	}
}

// mends damages the second of three sandboxes in each way that shows at its links.
func (f Factory) mends(t *testing.T) {
	ctx := context.Background()
	n := f.create(t)
	spaces, sandboxes := f.sandboxes(t, 3)
	if err := f.New(t).Connect(ctx, n, sandboxes); err != nil {
		t.Fatal(err)
	}
	inside := func(fn func(netlink.Link) error) func() error {
		return func() (err error) {
			spaces[1].Do(t, func() error {
				l, findErr := netlink.LinkByName("eth0")
				if err = findErr; err == nil {
					err = fn(l)
				}
				return nil
			})
			return err
		}
	}
	damages := map[string]func() error{
		"none":                     func() error { return nil },
		"its interface is deleted": inside(netlink.LinkDel),
		"its interface is down":    inside(netlink.LinkSetDown),
		"its addresses are removed": inside(func(l netlink.Link) error {
			for _, p := range []netip.Prefix{sandboxes[1].Endpoints[0].IPv4, sandboxes[1].Endpoints[0].IPv6} {
				a, err := netlink.ParseAddr(p.String())
				if err == nil {
					err = netlink.AddrDel(l, a)
				}
				if err != nil && p.IsValid() {
					return err
				}
			}
			return nil
		}),
	}
	if tracer, ok := f.New(t).(netdriver.Tracer); ok {
		damages["its link is deleted"] = func() error {
			l, err := netlink.LinkByName(tracer.Port(n.Name, sandboxes[1].ContainerID))
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		}
	}
	for situation, damage := range damages {
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", situation, err)
		}
		observe := func() map[string][]string {
			words, err := f.New(t).(netdriver.SandboxObserver).ObserveSandboxes(ctx, map[string]netdriver.Network{n.Name: n}, sandboxes)
			if err != nil {
				t.Fatal(err)
			}
			return words
		}
		told := observe()
		if damaged := len(told[sandboxes[1].ContainerID]) > 0; damaged != (situation != "none") || len(told) > 1 {
			t.Errorf("%s: told %q", situation, told)
		}
		if err := f.New(t).Connect(ctx, n, sandboxes); err != nil {
			t.Fatal(err)
		}
		if told := observe(); len(told) > 0 {
			t.Errorf("%s, connected again: told %q", situation, told)
		}
		f.reaches(t, spaces[0], sandboxes[1], spaces[1])
		f.reaches(t, spaces[1], sandboxes[2], spaces[2])
	}
}

// answers gives the network virtual addresses, twice, and takes them away.
func (f Factory) answers(t *testing.T) {
	ctx := context.Background()
	n := f.create(t)
	for i, virtual := range [][]netip.Addr{f.virtual(100), f.virtual(100), f.virtual(101), nil} {
		n.Virtual = virtual
		if err := f.New(t).(netdriver.Answerer).Answer(ctx, n); err != nil {
			t.Fatal(err)
		}
		if drift, err := f.New(t).Observe(ctx, n); err != nil || len(drift) > 0 {
			t.Errorf("step %d: %q, %v", i, drift, err)
		}
		for _, a := range append(f.virtual(100), f.virtual(101)...) {
			l, err := net.Listen("tcp", net.JoinHostPort(a.String(), "0"))
			if err == nil {
				l.Close()
			}
			if (err == nil) != slices.Contains(virtual, a) {
				t.Errorf("step %d: whether the host has %s: %v", i, a, err)
			}
		}
	}
}

// virtual gives the address at a place in each subnet of the network.
func (f Factory) virtual(place int) (out []netip.Addr) {
	for _, s := range f.Network.Subnets {
		a := s.Prefix.Addr()
		for range place {
			a = a.Next()
		}
		out = append(out, a)
	}
	return out
}

func (f Factory) create(t *testing.T) netdriver.Network {
	t.Helper()
	n := f.Network
	if err := f.New(t).Create(context.Background(), &n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.New(t).Remove(context.Background(), n); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (f Factory) sandboxes(t *testing.T, count int) (spaces []*Namespace, out []netdriver.Sandbox) {
	t.Helper()
	for i := range count {
		space := NewNamespace(t)
		space.LoopbackUp(t)
		id := fmt.Sprint("container", i)
		spaces = append(spaces, space)
		out = append(out, netdriver.Sandbox{ContainerID: id, Netns: space.Path(), Endpoints: []netdriver.Endpoint{endpoint(f, id, i)}})
	}
	return spaces, out
}

// endpoint number i of the network: addresses from the 10th of each subnet on.
func endpoint(f Factory, id string, i int) netdriver.Endpoint {
	e := netdriver.Endpoint{Network: f.Network.Name, ContainerID: id, Container: id, Interface: "eth0", Gateway: true}
	for _, s := range f.Network.Subnets {
		a := s.Prefix.Addr()
		for range 10 + i {
			a = a.Next()
		}
		if a.Is4() {
			e.IPv4 = netip.PrefixFrom(a, s.Prefix.Bits())
		} else {
			e.IPv6 = netip.PrefixFrom(a, s.Prefix.Bits())
		}
	}
	return e
}

// reaches checks that TCP goes from one sandbox to another's addresses.
func (f Factory) reaches(t *testing.T, from *Namespace, to netdriver.Sandbox, in *Namespace) {
	t.Helper()
	for _, p := range []netip.Prefix{to.Endpoints[0].IPv4, to.Endpoints[0].IPv6} {
		if !p.IsValid() {
			continue
		}
		var l net.Listener
		in.Do(t, func() (err error) {
			l, err = net.Listen("tcp", net.JoinHostPort(p.Addr().String(), "0"))
			return err
		})
		from.Do(t, func() error {
			c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
			if err != nil {
				return err
			}
			return c.Close()
		})
		l.Close()
	}
}

func interfaces(t *testing.T, n *Namespace) (out []string) {
	t.Helper()
	n.Do(t, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			out = append(out, l.Attrs().Name)
		}
		return err
	})
	return out
}

func linkNames(t *testing.T) (out []string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		out = append(out, l.Attrs().Name)
	}
	slices.Sort(out)
	return out
}
