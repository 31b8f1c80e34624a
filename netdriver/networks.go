package netdriver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// FieldDiff is one option in which a network differs from what is asked for.
type FieldDiff struct {
	Field string `json:"field"` // as in the stack file, such as "driver_opts.com.docker.network.driver.mtu"
	Have  string `json:"have"`
	Want  string `json:"want"`
}

// ConflictError says in what an existing network differs. It is an ErrConflict.
type ConflictError struct {
	Network string
	Fields  []FieldDiff
}

func (e *ConflictError) Error() string {
	words := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		words[i] = fmt.Sprintf("%s is %q, asked for %q", f.Field, f.Have, f.Want)
	}
	return fmt.Sprintf("network %s %v: %s", e.Network, ErrConflict, strings.Join(words, ", "))
}

func (e *ConflictError) Unwrap() error { return ErrConflict }

// Validate tells whether Ensure could make the network, without looking at the host: ErrUnsupported or a wrong subnet.
func (m *Manager) Validate(n Network) error {
	n = withDefaults(n)
	if !goodName(n.Name) {
		return fmt.Errorf("network name %q: a name starts with a letter or digit and has letters, digits, _ . and - (200 at most): %w", n.Name, ErrUnsupported)
	}
	d, err := m.driver(n)
	if err != nil {
		return err
	}
	if err := d.Validate(n); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	for i, s := range n.Subnets {
		if err := checkSubnet(s); err != nil {
			return fmt.Errorf("network %s: subnet %s: %w", n.Name, s.Prefix, err)
		}
		for _, other := range n.Subnets[:i] {
			if s.Prefix.IsValid() && s.Prefix.Overlaps(other.Prefix) {
				return fmt.Errorf("network %s: %s and %s: %w", n.Name, other.Prefix, s.Prefix, ErrOverlap)
			}
		}
	}
	return nil
}

// goodName keeps names that can be a folder's (of the DNS records) and a label's in a DNS name.
func goodName(name string) bool {
	for i, c := range name {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", c)) {
			return false
		}
	}
	return name != "" && len(name) <= 200
}

// withDefaults fills in what a stack file may leave out.
func withDefaults(n Network) Network {
	if n.Driver == "" || n.Driver == "default" {
		n.Driver = "bridge"
	}
	return n
}

// Conflicts lists in what the network differs from the one that exists; nil when there is none, or none differs.
// What the request leaves open (subnets, gateways) differs from nothing. Labels are not compared: they change in place.
func (m *Manager) Conflicts(want Network) []FieldDiff {
	have, err := m.Get(want.Name)
	if err != nil {
		return nil
	}
	return conflicts(have, withDefaults(want))
}

func conflicts(have, want Network) []FieldDiff {
	var out []FieldDiff
	differ := func(field string, h, w any) {
		if fmt.Sprint(h) != fmt.Sprint(w) {
			out = append(out, FieldDiff{field, fmt.Sprint(h), fmt.Sprint(w)})
		}
	}
	differ("driver", have.Driver, want.Driver)
	differ("internal", have.Internal, want.Internal)
	differ("enable_ipv4", have.IPv4, want.IPv4)
	differ("enable_ipv6", have.IPv6, want.IPv6)
	keys := maps.Clone(have.Options)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, want.Options)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		differ("driver_opts."+key, have.Options[key], want.Options[key])
	}
	for _, w := range want.Subnets {
		if !w.Prefix.IsValid() {
			continue
		}
		i := slices.IndexFunc(have.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is4() == w.Prefix.Addr().Is4() })
		if same := slices.IndexFunc(have.Subnets, func(s Subnet) bool { return s.Prefix == w.Prefix.Masked() }); same >= 0 {
			i = same
		}
		if i < 0 {
			out = append(out, FieldDiff{"ipam.config.subnet", "", w.Prefix.String()})
			continue
		}
		h := have.Subnets[i]
		differ("ipam.config.subnet", h.Prefix, w.Prefix.Masked())
		if w.Range.IsValid() {
			differ("ipam.config.ip_range", h.Range, w.Range.Masked())
		}
		if w.Gateway.IsValid() {
			differ("ipam.config.gateway", h.Gateway, w.Gateway)
		}
		for _, name := range slices.Sorted(maps.Keys(w.Aux)) {
			differ("ipam.config.aux_addresses."+name, h.Aux[name], w.Aux[name])
		}
	}
	return out
}

// Ensure makes a network, or checks and repairs the one of this name. created tells whether it was made by this call.
// Errors: ErrConflict (a *ConflictError), ErrOverlap, ErrUnsupported, ErrExhausted (of subnets).
// A failed call leaves neither record nor kernel object of a new network.
func (m *Manager) Ensure(ctx context.Context, want Network) (n Network, created bool, err error) {
	m.kernel.Lock()
	defer m.kernel.Unlock()
	want = withDefaults(want)
	if have, err := m.Get(want.Name); err == nil {
		if builtin[want.Name] {
			return have, false, nil
		}
		if diff := conflicts(have, want); len(diff) > 0 {
			return have, false, &ConflictError{want.Name, diff}
		}
		n, err := m.repair(ctx, have, want)
		return n, false, err
	}
	if err := m.Validate(want); err != nil {
		return Network{}, false, err
	}
	d, err := m.driver(want)
	if err != nil {
		return Network{}, false, err
	}
	n = want
	n.ID, n.Created = newID(), now()
	if n.Subnets, err = m.chooseSubnets(n); err != nil {
		return Network{}, false, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if err := saveRecord(m.opts.Root, n, false); err != nil {
		return Network{}, false, err
	}
	undo := func(cause error) error {
		err := d.Remove(context.WithoutCancel(ctx), n)
		if err == nil {
			err = removeRecord(m.opts.Root, n.Name)
		}
		return errors.Join(cause, err)
	}
	if err := d.Create(ctx, &n); err != nil {
		return Network{}, false, fmt.Errorf("network %s: %w", n.Name, undo(err))
	}
	if err := saveRecord(m.opts.Root, n, true); err != nil { // with the link's name
		return Network{}, false, undo(err)
	}
	m.put(n)
	return n, true, nil
}

func (m *Manager) put(n Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.networks[n.Name] = n
}

// repair brings back what the kernel lost of a network (a reboot, a daemon killed half-way, a flushed ruleset).
func (m *Manager) repair(ctx context.Context, have, want Network) (Network, error) {
	d, err := m.driver(have)
	if err != nil {
		return have, err
	}
	if want.Labels != nil && !maps.Equal(have.Labels, want.Labels) {
		have.Labels = want.Labels
		if err := saveRecord(m.opts.Root, have, true); err != nil {
			return have, err
		}
		m.put(have)
	}
	have = m.withVirtual(have)
	drift, err := d.Observe(ctx, have)
	if err != nil {
		return have, fmt.Errorf("network %s: %w", have.Name, err)
	}
	if len(drift) == 0 {
		return have, nil
	}
	m.opts.Logf("network %s: repairing: %s", have.Name, strings.Join(drift, "; "))
	if err := d.Create(ctx, &have); err != nil {
		return have, fmt.Errorf("network %s: %w", have.Name, err)
	}
	if err := saveRecord(m.opts.Root, have, true); err != nil {
		return have, err
	}
	m.put(have)
	return have, errors.Join(m.answer(ctx, have.Name), m.republish())
}

// Remove takes a network away: kernel first, record last. ErrInUse names the containers that still have addresses on it,
// ErrNotFound says that there is none.
func (m *Manager) Remove(ctx context.Context, name string) error {
	m.kernel.Lock()
	defer m.kernel.Unlock()
	n, err := m.Get(name)
	if err != nil {
		return err
	}
	if builtin[name] {
		return fmt.Errorf("network %s is built in and cannot be removed: %w", name, ErrUnsupported)
	}
	if users := m.endpointsOn(name); len(users) > 0 {
		names := make([]string, 0, len(users))
		for _, e := range users {
			names = append(names, e.Container)
		}
		return fmt.Errorf("network %s: %w by %s", name, ErrInUse, strings.Join(slices.Compact(names), ", "))
	}
	d, err := m.driver(n)
	if err != nil {
		return err
	}
	if err := d.Remove(ctx, n); err != nil {
		return fmt.Errorf("remove network %s: %w", name, err)
	}
	if err := m.removeNames(name); err != nil {
		return err
	}
	if err := removeRecord(m.opts.Root, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.networks, name)
	delete(m.leases, name)
	delete(m.virtual, name)
	for _, s := range n.Subnets {
		delete(m.cursor, s.Prefix.String())
	}
	return nil
}

// checkSubnet refuses a subnet that contradicts itself.
func checkSubnet(s Subnet) error {
	if !s.Prefix.IsValid() {
		if s.Gateway.IsValid() || s.Range.IsValid() || len(s.Aux) > 0 {
			return errors.New("a gateway, ip_range or aux_addresses need a subnet")
		}
		return nil
	}
	if s.Prefix.Addr().Is4In6() {
		return errors.New("is an IPv4 address in IPv6 clothing")
	}
	if s.Prefix.Bits() > s.Prefix.Addr().BitLen()-2 {
		return errors.New("has no room for a gateway and a container")
	}
	inside := func(what string, a netip.Addr) error {
		if !s.Prefix.Contains(a) {
			return fmt.Errorf("%s %s is outside of it", what, a)
		}
		return nil
	}
	if s.Gateway.IsValid() {
		if err := inside("the gateway", s.Gateway); err != nil {
			return err
		}
	}
	if s.Range.IsValid() {
		if err := inside("the ip_range", s.Range.Addr()); err != nil || s.Range.Bits() < s.Prefix.Bits() {
			return fmt.Errorf("the ip_range %s is outside of it", s.Range)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
		if err := inside("the auxiliary address "+name, s.Aux[name]); err != nil {
			return err
		}
	}
	return nil
}
