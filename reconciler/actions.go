package reconciler

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"syscall"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

func (x *execution) pull(ctx context.Context, a planner.Action) error {
	opts := image.PullOptions{Progress: func(p image.Progress) {
		x.emit(Event{Kind: "progress", Action: a, Progress: p})
	}}
	if svc := x.service(a.Service); svc != nil {
		opts.Platform = svc.Platform
	}
	_, err := x.r.images.Pull(ctx, a.Name, opts)
	return err
}

func (x *execution) service(name string) *spec.Service {
	if x.desired == nil {
		return nil
	}
	return x.desired.Services[name]
}

func (x *execution) ensureNetwork(ctx context.Context, a planner.Action) error {
	for _, n := range x.desired.Networks {
		if n.Name == a.Name && !n.External {
			want, err := network(x.desired.Name, n)
			if err != nil {
				return err
			}
			want.Room = room(x.desired, n.Key)
			_, _, err = x.r.networks.Ensure(ctx, want)
			return err
		}
	}
	if a.Name == bridgeNetwork {
		_, _, err := x.r.networks.Ensure(ctx, netdriver.Network{Name: bridgeNetwork, Driver: "bridge", IPv4: true})
		return err
	}
	return fmt.Errorf("network %s is not in the stack file", a.Name)
}

// room is how many containers of a stack are on a network.
func room(desired *spec.Stack, key string) (containers int) {
	for _, svc := range desired.Services {
		if svc.Networks[key] != nil {
			containers += svc.Replicas
		}
	}
	return containers
}

// network turns what the file declares into what netdriver makes.
func network(stack string, n *spec.Network) (netdriver.Network, error) {
	out := netdriver.Network{
		Name: n.Name, Driver: n.Driver, Options: n.DriverOpts, Internal: n.Internal, Stack: stack,
		IPv4: n.EnableIPv4 == nil || *n.EnableIPv4, IPv6: n.EnableIPv6 != nil && *n.EnableIPv6,
		Labels: map[string]string{},
	}
	if out.Driver == "" {
		out.Driver = "bridge"
	}
	maps.Copy(out.Labels, n.Labels)
	out.Labels[labelProject], out.Labels[labelNetwork], out.Labels[labelVersion] = stack, n.Key, Version
	out.Labels[labelHash] = planner.NetworkDigest(*n)
	for i, pool := range n.IPAM {
		s, err := subnet(pool)
		if err != nil {
			return out, fmt.Errorf("networks.%s.ipam.config[%d]: %w", n.Key, i, err)
		}
		if s.Prefix.IsValid() {
			out.Subnets = append(out.Subnets, s)
		}
	}
	return out, nil
}

func subnet(pool spec.IPAMPool) (s netdriver.Subnet, err error) {
	if pool.Subnet != "" {
		if s.Prefix, err = netip.ParsePrefix(pool.Subnet); err != nil {
			return s, fmt.Errorf("subnet: %w", err)
		}
		s.Prefix = s.Prefix.Masked()
	}
	if pool.IPRange != "" {
		if s.Range, err = netip.ParsePrefix(pool.IPRange); err != nil {
			return s, fmt.Errorf("ip_range: %w", err)
		}
	}
	if pool.Gateway != "" {
		if s.Gateway, err = netip.ParseAddr(pool.Gateway); err != nil {
			return s, fmt.Errorf("gateway: %w", err)
		}
	}
	for name, aux := range pool.Aux {
		addr, err := netip.ParseAddr(aux)
		if err != nil {
			return s, fmt.Errorf("aux_addresses.%s: %w", name, err)
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = addr
	}
	return s, nil
}

func (x *execution) ensureVolume(ctx context.Context, a planner.Action) error {
	for _, vol := range x.desired.Volumes {
		if vol.Name != a.Name || vol.External {
			continue
		}
		want := voldriver.Volume{Name: vol.Name, Driver: vol.Driver, Options: vol.DriverOpts, Stack: x.stack, Labels: map[string]string{}}
		if want.Driver == "" {
			want.Driver = "local"
		}
		maps.Copy(want.Labels, vol.Labels)
		want.Labels[labelProject], want.Labels[labelVolume], want.Labels[labelVersion] = x.stack, vol.Key, Version
		want.Labels[labelHash] = planner.VolumeDigest(*vol)
		_, _, err := x.r.volumes.Ensure(ctx, want)
		return err
	}
	return fmt.Errorf("volume %s is not in the stack file", a.Name)
}

func (x *execution) create(ctx context.Context, a planner.Action) error {
	svc := x.service(a.Service)
	if svc == nil {
		return fmt.Errorf("service %s is not in the stack file", a.Service)
	}
	c := creation{stack: x.desired, service: svc, name: a.Name, replica: a.Replica, replaces: a.Replaces, succeeds: a.Succeeds, image: x.images[a.Service]}
	x.mu.Lock()
	if old, ok := x.old[a.Replaces]; ok {
		c.old = &old
	}
	x.mu.Unlock()
	v, err := x.r.createContainer(ctx, c)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.created[a.Address] = v.ID
	x.mu.Unlock()
	return nil
}

func (x *execution) start(ctx context.Context, a planner.Action) error {
	id, s := x.container(a), x.r.stack(x.stack)
	again := (a.Reason == planner.RestartPolicy || a.Reason == planner.Drifted) && s.handed(id)
	if err := x.r.prepared(id); err != nil {
		return err
	}
	err := x.r.startContainer(ctx, id, startOptions{again: again, warn: func(text string) {
		x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: text})
	}})
	if err == nil {
		return nil
	}
	if again {
		s.keeper(id).hand() // it is still the loop's
	}
	// A program that could not be executed is a container that failed: as with Docker it stays, created.
	if v, getErr := x.r.engine.Get(id); getErr == nil && runtime.IsStartRefused(err) {
		return &ContainerError{Container: v, Reason: "can't start", Err: err}
	}
	return err
}

// remove deletes a container. The log of one that another takes the place of outlives it.
func (x *execution) remove(ctx context.Context, a planner.Action) error {
	if a.Reason != planner.Requested && a.Reason != planner.Orphan {
		err := x.r.engine.Update(a.ContainerID, func(rec *runtime.Record) { rec.KeepLog = !rec.OneOff })
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return x.r.removeContainer(ctx, a.ContainerID, a.Volumes)
}

// container is the id of the container that an action is about: one that was there, or that this execution made.
func (x *execution) container(a planner.Action) string {
	if a.ContainerID != "" {
		return a.ContainerID
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.created[a.Address]
}

func (x *execution) kill(ctx context.Context, a planner.Action) error {
	sig := syscall.SIGKILL
	if a.Signal != "" {
		var err error
		if sig, err = bundle.ParseSignal(a.Signal); err != nil {
			return err
		}
	}
	if sig == syscall.SIGKILL {
		now := stopRequest{id: a.ContainerID, grace: &zero}
		return x.r.stopContainer(ctx, now)
	}
	v, err := x.r.engine.Get(a.ContainerID)
	if err != nil {
		return ignoreNotFound(err)
	}
	img, err := x.r.engine.Image(ctx, v.ImageID)
	if err != nil {
		return err
	}
	// As with Docker: who sends the stop signal doesn't want the container restarted.
	if stop, err := bundle.StopSignal(&v.Spec, img.Config.ImageConfig); err == nil && stop == sig {
		if err := x.r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Intent = runtime.IntentStop }); err != nil {
			return err
		}
	}
	return x.r.engine.Signal(ctx, a.ContainerID, sig)
}
