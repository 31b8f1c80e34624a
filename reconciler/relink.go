package reconciler

import (
	"context"
	"reflect"
	"slices"
	"strconv"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// relinks tells whether the container's places on networks, its ports or its name resolution change.
func (u *updating) relinks() bool {
	if u.old.NetMode != runtime.NetPrivate {
		return false
	}
	a, b := &u.old.Spec, u.service
	return u.old.Updating || !reflect.DeepEqual(a.Networks, b.Networks) || !reflect.DeepEqual(a.Ports, b.Ports) ||
		!slices.Equal(a.DNS, b.DNS) || !slices.Equal(a.DNSSearch, b.DNSSearch) || !slices.Equal(a.DNSOpt, b.DNSOpt) ||
		!slices.Equal(a.ExtraHosts, b.ExtraHosts)
}

// places works out the endpoints that the container is to have. On networks that it is on already it keeps its addresses and
// the name of its interface; the way out, and with it the ports, stay where they are as long as that network does.
func (u *updating) places(ctx context.Context) (next, gone []netdriver.Endpoint, err error) {
	rec := u.old.Record
	next, err = u.r.endpoints(creation{stack: u.stack, service: u.service, name: rec.Name, replica: rec.Replica, succeeds: rec.Succeeds}, &rec)
	if err != nil {
		return nil, nil, err
	}
	had := map[string]netdriver.Endpoint{}
	names := map[string]bool{} // of interfaces
	for _, ep := range u.old.Endpoints {
		had[ep.Network] = ep
		names[ep.Interface] = true
	}
	for i := range next {
		ep := &next[i]
		if len(u.old.Endpoints) > 0 {
			ep.Readiness = u.old.Endpoints[0].Readiness
		}
		old, ok := had[ep.Network]
		switch {
		case ok:
			delete(had, ep.Network)
			ep.Interface, ep.MAC, ep.IPv4, ep.IPv6 = old.Interface, old.MAC, old.IPv4, old.IPv6
			ep.VIP4, ep.VIP6 = old.VIP4, old.VIP6
		case names[ep.Interface]:
			for n := 0; names[ep.Interface]; n++ {
				ep.Interface = "eth" + strconv.Itoa(n)
			}
		}
		names[ep.Interface] = true
	}
	keepWayOut(u.old.Endpoints, next)
	for _, ep := range u.old.Endpoints {
		if _, left := had[ep.Network]; left {
			gone = append(gone, ep)
		}
	}
	next, err = u.r.networks.Allocate(ctx, next)
	return next, gone, err
}

// keepWayOut leaves the default route and the ports on the network that they are on.
func keepWayOut(old, next []netdriver.Endpoint) {
	way := slices.IndexFunc(old, func(ep netdriver.Endpoint) bool { return ep.Gateway })
	to := slices.IndexFunc(next, func(ep netdriver.Endpoint) bool { return ep.Gateway })
	if way < 0 || to < 0 {
		return
	}
	stay := slices.IndexFunc(next, func(ep netdriver.Endpoint) bool { return ep.Network == old[way].Network })
	if stay < 0 || stay == to {
		return
	}
	next[stay].Gateway, next[stay].Ports = true, next[to].Ports
	next[to].Gateway, next[to].Ports = false, nil
}

// relink changes the networks and ports of a running container: what is new is made before what is old goes, as far as that
// is no part of the way out.
func (u *updating) relink(ctx context.Context) (err error) {
	netns, err := u.r.engine.Sandbox(ctx, u.old.ID)
	if err != nil {
		return err
	}
	next, gone, err := u.places(ctx)
	if err != nil {
		return u.refusedNetwork(ctx, err)
	}
	in := runtime.NetworkInput{}
	defer func() {
		for _, f := range in.Held {
			f.Close() // the shim has its own
		}
	}()
	if err := u.reservePorts(ctx, next, &in); err != nil {
		return u.refusedNetwork(ctx, err)
	}
	// On record before anything is made: what a crash leaves is taken down by it.
	err = u.r.engine.Update(u.old.ID, func(rec *runtime.Record) {
		rec.Endpoints, rec.Connected = append(slices.Clone(next), withoutPorts(gone)...), netns
	})
	if err != nil {
		return err
	}
	v := u.old
	v.Spec = *u.service
	in.Hosts, in.HostGateway, in.DNS = hostEntries(v, next), u.r.gateways(next), u.r.dnsConfig(v, next)
	if len(gone) > 0 {
		if err := u.r.networks.Disconnect(ctx, []netdriver.Sandbox{{ContainerID: u.old.ID, Netns: netns, Endpoints: gone}}); err != nil {
			return err
		}
	}
	if _, err := u.r.links.connect(netdriver.Sandbox{ContainerID: u.old.ID, Netns: netns, Endpoints: next}); err != nil {
		return err
	}
	if err := u.r.engine.SetNetwork(ctx, u.old.ID, u.service, in); err != nil {
		return err
	}
	u.endpoints = next
	return nil
}

func withoutPorts(endpoints []netdriver.Endpoint) []netdriver.Endpoint {
	out := slices.Clone(endpoints)
	for i := range out {
		out[i].Ports = nil
	}
	return out
}

// refusedNetwork gives back what was taken for a change that can't be made.
func (u *updating) refusedNetwork(ctx context.Context, err error) error {
	if undo := u.r.networks.Vacate(ctx, u.old.ID, u.old.Endpoints); undo != nil {
		u.r.logf("%s: %v", u.old.Name, undo)
	}
	return u.refused(err)
}

// reservePorts takes the host ports that are new; those that stay keep what the host chose for them.
func (u *updating) reservePorts(ctx context.Context, next []netdriver.Endpoint, in *runtime.NetworkInput) error {
	way := slices.IndexFunc(next, func(ep netdriver.Endpoint) bool { return len(ep.Ports) > 0 })
	if way < 0 {
		return nil
	}
	ep := &next[way]
	resolved := u.resolvedPorts()
	var asked []netdriver.Port
	var places []int
	for i, p := range u.service.Ports {
		if have := resolved[p]; len(have) > 0 {
			ep.Ports[i], resolved[p] = have[0], have[1:]
			in.Keep = append(in.Keep, ep.Ports[i].Held()...)
			continue
		}
		port := ep.Ports[i]
		if !port.HostIP.IsValid() {
			port.HostIP = u.r.networks.HostBinding(ep.Network)
		}
		asked, places = append(asked, port), append(places, i)
	}
	if len(asked) == 0 {
		return nil
	}
	holder := netdriver.Holder{ContainerID: u.old.ID, Name: u.old.Name, Group: ep.Group}
	ports, reservation, err := u.r.networks.Reserve(ctx, holder, asked)
	if err != nil {
		return err
	}
	in.Held, in.Forwards = reservation.Files, reservation.Forwards(*ep)
	for i, p := range ports {
		ep.Ports[places[i]] = p
		in.Keep = append(in.Keep, p.Held()...) // what an update before this one, that was not finished, holds already
	}
	return nil
}

// resolvedPorts are the host ports that the container has, by what its spec asked for.
func (u *updating) resolvedPorts() map[spec.Port][]netdriver.Port {
	have := map[spec.Port][]netdriver.Port{}
	if u.old.Updating {
		return have // what is on record may be those of the update that was not finished
	}
	for _, ep := range u.old.Endpoints {
		if len(ep.Ports) != len(u.old.Spec.Ports) {
			continue
		}
		for i, p := range u.old.Spec.Ports {
			have[p] = append(have[p], ep.Ports[i])
		}
	}
	return have
}
