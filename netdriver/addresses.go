package netdriver

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// Option names of networks that the Manager itself reads, whatever the driver.
const (
	// OptionInterfacePrefix is what interface names in containers start with; "eth" when not given.
	OptionInterfacePrefix = "com.docker.network.container_iface_prefix"
	// OptionHostBinding is the host address that ports are published at when the stack file names none.
	OptionHostBinding = "com.docker.network.bridge.host_binding_ipv4"
)

// Restore tells the Manager at the daemon's start what containers hold: addresses, and published ports of those that are
// connected, with their network namespaces by container id. The container records are the truth; what was known before is kept. Endpoints on networks
// that are gone are left out. It changes nothing in the kernel: see Sweep.
func (m *Manager) Restore(endpoints []Endpoint, connected map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	byContainer := map[string][]Endpoint{}
	for _, e := range endpoints {
		if _, ok := m.networks[e.Network]; !ok {
			m.opts.Logf("container %s: its network %s is gone", e.Container, e.Network)
			continue
		}
		m.lease(e)
		if connected[e.ContainerID] == "" {
			continue
		}
		h := Holder{e.ContainerID, e.Container, e.Group}
		for _, p := range e.Ports {
			for _, hp := range p.occupies() {
				if !m.claims[hp].has(h) {
					m.claims[hp] = append(m.claims[hp], claim{h.ContainerID, h.Name, h.Group})
				}
			}
		}
		byContainer[e.ContainerID] = append(byContainer[e.ContainerID], e)
	}
	members := map[string]member{}
	for id, list := range byContainer {
		m.connected[id] = Sandbox{id, connected[id], list, namespace(connected[id])}
		mappings, err := m.mappings(id, list)
		if err != nil {
			m.opts.Logf("container %s: %v", id, err)
			continue
		}
		members[id] = member{readinessOf(list), mappings}
	}
	have, err := m.opts.Firewall.Mappings()
	if err != nil {
		return err
	}
	m.fronts.commit(frontChange{members: members, entered: byFront(have)})
	return nil
}

// lease notes an endpoint's addresses. The caller holds m.mu.
func (m *Manager) lease(e Endpoint) {
	if m.leases[e.Network] == nil {
		m.leases[e.Network] = map[netip.Addr]Endpoint{}
	}
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() {
			m.leases[e.Network][p.Addr()] = e
		}
	}
	m.leaseVirtual(e)
}

// Allocate completes endpoints with addresses, a MAC address and an interface name. All or nothing: on an error no
// address is kept. Asking again for a container gives what it has. Addresses stay until Release.
// Errors: ErrExhausted, ErrInUse (a static address that another container has), ErrUnsupported (a static address outside
// of the subnets), ErrNotFound.
func (m *Manager) Allocate(_ context.Context, endpoints []Endpoint) ([]Endpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(endpoints)
	var taken []Endpoint
	undo := func() {
		for _, e := range taken {
			m.unlease(e.Network, e.ContainerID)
		}
	}
	// Static addresses first, so that a dynamic one doesn't take what another endpoint of the batch asks for.
	order := make([]int, len(out))
	for i := range order {
		order[i] = i
	}
	static := func(e Endpoint) int {
		if e.IPv4.IsValid() || e.IPv6.IsValid() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(static(out[a]), static(out[b])) })
	for _, i := range order {
		had := m.leaseOf(out[i].Network, out[i].ContainerID) != nil
		e, err := m.allocate(out[i])
		if err != nil {
			undo()
			return nil, fmt.Errorf("%s on network %s: %w", out[i].Container, out[i].Network, err)
		}
		out[i] = e
		if !had {
			taken = append(taken, e)
		}
	}
	nameInterfaces(out, m.networks)
	for _, e := range out {
		m.lease(e)
	}
	return out, nil
}

// allocate completes one endpoint. The caller holds m.mu.
func (m *Manager) allocate(e Endpoint) (Endpoint, error) {
	n, ok := m.networks[e.Network]
	if !ok {
		return e, ErrNotFound
	}
	if e.MAC != "" {
		mac, err := net.ParseMAC(e.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 == 1 {
			return e, fmt.Errorf("MAC address %q is not one of a single Ethernet interface: %w", e.MAC, ErrUnsupported)
		}
	}
	have := m.leaseOf(e.Network, e.ContainerID)
	for _, family := range []struct {
		want    *netip.Prefix
		is4     bool
		static  bool
		enabled bool
	}{{&e.IPv4, true, e.Static4, n.IPv4}, {&e.IPv6, false, e.Static6, n.IPv6}} {
		var held netip.Prefix
		if have != nil {
			held = have.IPv6
			if family.is4 {
				held = have.IPv4
			}
		}
		switch {
		case family.want.IsValid() && held.IsValid() && family.want.Addr() == held.Addr():
			*family.want = held
		case family.want.IsValid() && !family.enabled:
			return e, fmt.Errorf("address %s: the network does not have this family enabled: %w", family.want.Addr(), ErrUnsupported)
		case family.want.IsValid():
			p, err := m.takeStatic(n, e, family.want.Addr())
			if err != nil {
				return e, err
			}
			*family.want = p
		case held.IsValid():
			*family.want = held
		case family.enabled:
			p, err := m.takeNext(n, family.is4)
			if err != nil {
				return e, err
			}
			*family.want = p
		}
	}
	if e.MAC == "" {
		switch {
		case e.IPv4.IsValid():
			e.MAC = HardwareAddr(e.IPv4.Addr()).String()
		case e.IPv6.IsValid():
			e.MAC = HardwareAddr(e.IPv6.Addr()).String()
		}
	}
	if err := m.allocateVirtual(n, &e); err != nil {
		return e, err
	}
	m.lease(e)
	return e, nil
}

// takeStatic checks an address that the stack file asks for.
func (m *Manager) takeStatic(n Network, e Endpoint, a netip.Addr) (netip.Prefix, error) {
	for _, s := range n.Subnets {
		if !s.Prefix.Contains(a) {
			continue
		}
		if a == s.Gateway || a == s.Prefix.Addr() || a.Is4() && a == lastAddr(s.Prefix) {
			return netip.Prefix{}, fmt.Errorf("address %s is the gateway, network or broadcast address of %s: %w", a, s.Prefix, ErrInUse)
		}
		if other, ok := m.leases[n.Name][a]; ok && other.ContainerID != e.ContainerID {
			return netip.Prefix{}, fmt.Errorf("address %s: %w by container %s", a, ErrInUse, other.Container)
		}
		if group, ok := m.virtual[n.Name][a]; ok {
			return netip.Prefix{}, fmt.Errorf("address %s: %w as the virtual address of %s", a, ErrInUse, group)
		}
		return netip.PrefixFrom(a, s.Prefix.Bits()), nil
	}
	return netip.Prefix{}, fmt.Errorf("address %s is in no subnet of the network: %w", a, ErrUnsupported)
}

// takeNext gives the next free address of a family, going round, so that an address just released is used late.
func (m *Manager) takeNext(n Network, is4 bool) (netip.Prefix, error) {
	full := ""
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is4() != is4 {
			continue
		}
		if a, ok := m.freeAddr(n, s); ok {
			m.cursor[s.Prefix.String()] = a
			return netip.PrefixFrom(a, s.Prefix.Bits()), nil
		}
		full += " " + s.Prefix.String()
	}
	return netip.Prefix{}, fmt.Errorf("%w:%s", ErrExhausted, full)
}

func (m *Manager) freeAddr(n Network, s Subnet) (netip.Addr, bool) {
	room := s.Prefix
	if s.Range.IsValid() {
		room = s.Range
	}
	start := room.Addr()
	if c, ok := m.cursor[s.Prefix.String()]; ok && room.Contains(c.Next()) {
		start = c.Next()
	}
	for a, wrapped := start, false; ; a = a.Next() {
		if !a.IsValid() || !room.Contains(a) {
			if wrapped {
				return netip.Addr{}, false
			}
			a, wrapped = room.Addr(), true
		}
		if wrapped && a == start && start != room.Addr() {
			return netip.Addr{}, false
		}
		if m.isFree(n, s, a) {
			return a, true
		}
	}
}

// isFree tells whether an address of a subnet is nobody's. The caller holds m.mu.
func (m *Manager) isFree(n Network, s Subnet, a netip.Addr) bool {
	if a == s.Gateway || a == s.Prefix.Addr() || a.Is4() && a == lastAddr(s.Prefix) {
		return false
	}
	for _, aux := range s.Aux {
		if a == aux {
			return false
		}
	}
	_, leased := m.leases[n.Name][a]
	_, virtual := m.virtual[n.Name][a]
	return !leased && !virtual
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// leaseOf finds what a container holds on a network. The caller holds m.mu.
func (m *Manager) leaseOf(network, container string) *Endpoint {
	for _, e := range m.leases[network] {
		if e.ContainerID == container {
			return &e
		}
	}
	return nil
}

// nameInterfaces gives endpoints without an interface name the first free one of their container.
func nameInterfaces(list []Endpoint, networks map[string]Network) {
	used := map[string]bool{}
	for _, e := range list {
		used[e.ContainerID+"/"+e.Interface] = true
	}
	for i := range list {
		if list[i].Interface != "" {
			continue
		}
		prefix := cmp.Or(networks[list[i].Network].Options[OptionInterfacePrefix], "eth")
		for k := 0; ; k++ {
			name := prefix + strconv.Itoa(k)
			if key := list[i].ContainerID + "/" + name; !used[key] {
				used[key], list[i].Interface = true, name
				break
			}
		}
	}
}

// Release gives a container's addresses and ports back, and with the last container of a group its virtual addresses. The
// container must be disconnected and unpublished.
func (m *Manager) Release(containerID string) {
	m.mu.Lock()
	var changed []string
	for network := range m.leases {
		if m.unlease(network, containerID) {
			changed = append(changed, network)
		}
	}
	m.unclaim(containerID)
	delete(m.connected, containerID)
	m.mu.Unlock()
	for _, network := range changed {
		if err := m.answer(context.Background(), network); err != nil {
			m.opts.Logf("network %s: %v", network, err) // the next daemon's Sweep finds it
		}
	}
}

// unlease forgets a container's addresses on a network, and tells whether a virtual one was among them. The caller holds
// m.mu.
func (m *Manager) unlease(network, containerID string) (virtual bool) {
	for a, e := range m.leases[network] {
		if e.ContainerID == containerID {
			delete(m.leases[network], a)
		}
	}
	return m.dropVirtual(network)
}

// endpointsOn lists who holds addresses on a network, by container name.
func (m *Manager) endpointsOn(network string) []Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	var out []Endpoint
	for _, e := range m.leases[network] {
		if !seen[e.ContainerID] {
			seen[e.ContainerID] = true
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return cmp.Compare(a.Container, b.Container) })
	return out
}

func (m *Manager) endpoints() (out []Endpoint) {
	for _, n := range m.List() {
		out = append(out, m.endpointsOn(n.Name)...)
	}
	return out
}

// HostBinding is the host address that ports of a container on the network are published at when the stack file names
// none; invalid for every address.
func (m *Manager) HostBinding(network string) netip.Addr {
	n, err := m.Get(network)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(n.Options[OptionHostBinding])
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
