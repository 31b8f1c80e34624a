package reconciler

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// startOptions of one start.
type startOptions struct {
	again  bool         // by restart policy: what earlier runs counted is kept
	warn   func(string) // may be nil
	attach []*os.File   // standard output and error are copied there, from the first byte on
}

// startContainer connects a container's network and runs its program. A start that fails gives back what it took; the
// container is as it was.
func (r *Reconciler) startContainer(ctx context.Context, id string, opts startOptions) error {
	v, err := r.engine.Get(id)
	if err != nil {
		return err
	}
	s := r.stack(v.Stack)
	k := s.keeper(id)
	k.life.Lock()
	defer k.life.Unlock()
	if v, err = r.engine.Get(id); err != nil || v.Running() {
		return err
	}
	if opts.again {
		if v.Intent != runtime.IntentRun || v.Phase != runtime.Made {
			return runtime.ErrStopped
		}
		err := r.engine.Update(id, func(rec *runtime.Record) {
			rec.Restarts++
			if !rec.Healing { // those have bounds of their own
				rec.Attempts++
			}
		})
		if err != nil {
			return err
		}
	}
	k.begin(opts.again)
	if err := r.standIn(s, v); err != nil {
		return err
	}
	if v, err = r.engine.Get(id); err != nil {
		return err
	}
	in, err := r.prepareNetwork(ctx, v)
	if err == nil {
		err = r.acquireVolumes(ctx, v)
	}
	if err == nil {
		in.ShmPath, err = r.sharedMemory(ctx, v)
	}
	if err == nil {
		in.WorkingDir = v.Labels[labelWorkingDir]
		in.Warn, in.Attach, in.Again = opts.warn, opts.attach, opts.again
		err = r.engine.Start(ctx, id, in)
	}
	for _, f := range in.Held {
		f.Close() // the shim has its own
	}
	if err != nil {
		if r.ctx.Err() != nil {
			return err // the next daemon sees what came of it
		}
		if undo := r.disconnect(context.WithoutCancel(ctx), id); undo != nil {
			r.logf("clean up %s: %v", v.Name, undo)
		}
		if !opts.again && v.Intent == runtime.IntentRun {
			r.judge(s, k, v) // the restart that was to come still is
		}
		return err
	}
	k.started()
	if v, err = r.engine.Get(id); err == nil && v.Running() {
		r.monitor(s, v)
		r.watchLimits(v)
	}
	s.notify()
	if err == nil {
		r.retraffic(s, v.Service)
	}
	return nil
}

// prepareNetwork makes the container's network namespace and connects it, or does nothing where it has none of its own.
func (r *Reconciler) prepareNetwork(ctx context.Context, v runtime.View) (runtime.StartInput, error) {
	in := runtime.StartInput{}
	if v.NetMode != runtime.NetPrivate && v.NetMode != runtime.NetNone {
		return in, nil
	}
	netns, err := r.engine.Sandbox(ctx, v.ID)
	if err != nil {
		return in, err
	}
	sb := netdriver.Sandbox{ContainerID: v.ID, Netns: netns, Endpoints: withReadiness(grouped(v), r.atFirst(ctx, v))}
	if v.State.Netns != netns || v.Connected != netns { // a new one, though its path may be that of one before a reboot
		if err := r.reserve(ctx, v, &sb, &in); err != nil {
			return in, err
		}
		// On record before anything is made: what a crash leaves is taken down by it.
		err = r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Endpoints, rec.Connected = sb.Endpoints, netns })
	} else {
		err = r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Endpoints = sb.Endpoints })
	}
	if err != nil {
		return in, err
	}
	if sb, err = r.links.connect(sb); err != nil {
		return in, err
	}
	in.Hosts = hostEntries(v, sb.Endpoints)
	in.HostGateway = r.gateways(sb.Endpoints)
	if v.NetMode == runtime.NetPrivate {
		in.DNS = r.dnsConfig(v, sb.Endpoints)
	}
	return in, nil
}

// reserve takes the host ports of a container and fills in those the host chose.
func (r *Reconciler) reserve(ctx context.Context, v runtime.View, sb *netdriver.Sandbox, in *runtime.StartInput) error {
	sb.Endpoints = slices.Clone(sb.Endpoints)
	for i, ep := range sb.Endpoints {
		if len(ep.Ports) == 0 {
			continue
		}
		asked, err := hostPorts(v.Spec.Ports)
		if err != nil {
			return err
		}
		for i := range asked {
			if !asked[i].HostIP.IsValid() {
				asked[i].HostIP = r.networks.HostBinding(ep.Network)
			}
		}
		ports, reservation, err := r.networks.Reserve(ctx, netdriver.Holder{ContainerID: v.ID, Name: v.Name, Group: ep.Group}, asked)
		if err != nil {
			return err
		}
		sb.Endpoints[i].Ports = ports
		in.Held = append(in.Held, reservation.Files...)
		for _, f := range reservation.Forwards(ep) {
			f.File += len(in.Held) - len(reservation.Files)
			in.Forwards = append(in.Forwards, f)
		}
	}
	return nil
}

// acquireVolumes makes sure that what the container mounts is there and mounted, after a reboot too.
func (r *Reconciler) acquireVolumes(ctx context.Context, v runtime.View) error {
	if len(v.MountSpecs) == 0 {
		return nil
	}
	scope := voldriver.Scope{Volumes: map[string]*spec.Volume{}, Stack: v.Stack, ContainerID: v.ID, Anonymous: map[string]string{}}
	for i, m := range v.MountSpecs {
		if i >= len(v.Mounts) {
			break
		}
		switch {
		case v.Mounts[i].Volume == "":
		case m.Source == "":
			scope.Anonymous[m.Target] = v.Mounts[i].Volume
		default:
			scope.Volumes[m.Source] = &spec.Volume{Key: m.Source, Name: v.Mounts[i].Volume}
		}
	}
	mounts := make([]voldriver.Mount, 0, len(v.MountSpecs))
	for _, m := range v.MountSpecs {
		resolved, err := r.volumes.Resolve(ctx, scope, m)
		if err != nil {
			return err
		}
		mounts = append(mounts, resolved)
	}
	return r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Mounts = mounts })
}

// defaultShm is the size of /dev/shm in bytes where the file does not say.
const defaultShm = 64 << 20

// sharedMemory finds what is behind the /dev/shm of a container that shares it (`ipc: shareable`, `service:`, `container:`); it
// is empty for all others.
func (r *Reconciler) sharedMemory(ctx context.Context, v runtime.View) (string, error) {
	if v.IPCOf != "" {
		owner, err := r.engine.Get(v.IPCOf)
		if err != nil {
			return "", err
		}
		return r.volumes.Acquire(ctx, voldriver.AnonymousName(owner.Stack, owner.ID, "/dev/shm"), v.ID)
	}
	if v.Spec.IPC != "shareable" {
		return "", nil
	}
	size := v.Spec.ShmSize
	if size == 0 {
		size = defaultShm
	}
	name := voldriver.AnonymousName(v.Stack, v.ID, "/dev/shm")
	if !slices.Contains(v.Anonymous, name) {
		err := r.engine.Update(v.ID, func(rec *runtime.Record) { rec.Anonymous = append(slices.Clone(rec.Anonymous), name) })
		if err != nil {
			return "", err
		}
	}
	shm, err := r.volumes.SharedMemory(ctx, v.Stack, v.ID, size)
	return shm.Mountpoint, err
}

// hostEntries are the container's own names for /etc/hosts.
func hostEntries(v runtime.View, endpoints []netdriver.Endpoint) []bundle.HostEntry {
	name := bundle.Hostname(&v.Spec, v.ID)
	names := []string{name}
	if v.Spec.Domainname != "" && !strings.Contains(name, ".") {
		names = []string{name + "." + v.Spec.Domainname, name}
	}
	var entries []bundle.HostEntry
	for _, ep := range endpoints {
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				entries = append(entries, bundle.HostEntry{Addr: p.Addr(), Names: names})
			}
		}
	}
	return entries
}

// gateways are the host's own addresses on the container's network: what host-gateway stands for.
func (r *Reconciler) gateways(endpoints []netdriver.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, ep := range endpoints {
		n, err := r.networks.Get(ep.Network)
		if err != nil || !ep.Gateway {
			continue
		}
		for _, subnet := range n.Subnets {
			if subnet.Gateway.IsValid() {
				out = append(out, subnet.Gateway)
			}
		}
	}
	return out
}

func (r *Reconciler) dnsConfig(v runtime.View, endpoints []netdriver.Endpoint) *dns.Config {
	// Without servers of its own the container asks the host's, from the host: they may be on its loopback.
	cfg := &dns.Config{Servers: v.Spec.DNS, Closed: true}
	for _, ep := range endpoints {
		cfg.Networks = append(cfg.Networks, ep.Network)
		if n, err := r.networks.Get(ep.Network); err == nil && !n.Internal {
			cfg.Closed = false
		}
	}
	for _, link := range append(slices.Clone(v.Spec.Links), v.Spec.ExternalLinks...) {
		name, alias, found := strings.Cut(link, ":")
		if !found || name == alias {
			continue
		}
		if cfg.Links == nil {
			cfg.Links = map[string][]string{}
		}
		cfg.Links[alias] = append(cfg.Links[alias], name)
	}
	return cfg
}

// static finds the subnet of a fixed address.
func static(address string, n netdriver.Network, v6 bool) (netip.Prefix, bool, error) {
	if address == "" {
		return netip.Prefix{}, false, nil
	}
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Is6() != v6 {
		return netip.Prefix{}, false, fmt.Errorf("%q is not an address of this kind", address)
	}
	for _, s := range n.Subnets {
		if s.Prefix.Contains(addr) {
			return netip.PrefixFrom(addr, s.Prefix.Bits()), true, nil
		}
	}
	return netip.Prefix{}, false, fmt.Errorf("%s is in no subnet of network %s; give the network an ipam subnet that holds it", address, n.Name)
}

// hostPorts turns `ports:` into what netdriver reserves.
func hostPorts(ports []spec.Port) ([]netdriver.Port, error) {
	var out []netdriver.Port
	for _, p := range ports {
		port := netdriver.Port{Target: p.Target, Protocol: p.Protocol}
		if p.HostIP != "" {
			addr, err := netip.ParseAddr(strings.Trim(p.HostIP, "[]"))
			if err != nil {
				return nil, fmt.Errorf("ports: host address %q: %w", p.HostIP, err)
			}
			port.HostIP = addr
		}
		first, last, isRange := strings.Cut(p.Published, "-")
		for _, part := range []struct {
			text string
			to   *uint16
		}{{first, &port.HostPort}, {last, &port.HostPortEnd}} {
			if part.text == "" {
				continue
			}
			n, err := strconv.ParseUint(part.text, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("ports: published %q: %w", p.Published, err)
			}
			*part.to = uint16(n)
		}
		if isRange && port.HostPortEnd == port.HostPort {
			port.HostPortEnd = 0
		}
		out = append(out, port)
	}
	return out, nil
}
