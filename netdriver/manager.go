package netdriver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stack-run/stack/netdriver/firewall"
)

// Pool is a range of addresses that networks without a subnet of their own are cut from: Base in pieces of Size bits.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// Options of a Manager. Use drivers.Open, which fills in Drivers and Firewall.
type Options struct {
	Root         string // folder of the network records
	RunDir       string // DNS records go to its dns folder
	Seed         string // the daemon's root folder: names in the kernel derive from it
	AddressPools []Pool // empty: DefaultPools
	Logf         func(format string, args ...any)

	Drivers  map[string]Driver
	Firewall *firewall.Table
}

// Sweeper is a Driver that can find what it made in the kernel, and remove what nobody owns any more.
type Sweeper interface {
	Sweep(ctx context.Context, networks []Network, endpoints []Endpoint) error
}

// Manager keeps the networks of one daemon. Its methods are safe for concurrent use.
type Manager struct {
	opts Options
	dns  string // folder of the DNS records

	// kernel serialises what makes and removes networks, which is rare, from choosing a subnet to the finished bridge.
	kernel sync.Mutex

	mu       sync.Mutex // guards what follows; held for memory work only
	networks map[string]Network
	leases   map[string]map[netip.Addr]Endpoint // by network, then address
	virtual  map[string]map[netip.Addr]string   // by network: virtual addresses and the groups that have them
	cursor   map[string]netip.Addr              // by subnet: the last address given out, so that reuse comes late
	claims   map[hostPort]claims
	fronts   fronts
	// connected are the sandboxes as they were last connected, by container id.
	connected map[string]Sandbox
	held      map[string]hold // by container id
	opened    time.Time

	// publishing serialises changes of what is published, from working them out to the kernel's word. It is taken before mu.
	publishing sync.Mutex
	// answering serialises changes of the addresses that the host answers at.
	answering sync.Mutex
}

// Open reads the records. It does nothing to the kernel.
func Open(opts Options) (*Manager, error) {
	if opts.Logf == nil {
		opts.Logf = func(string, ...any) {}
	}
	if len(opts.AddressPools) == 0 {
		opts.AddressPools = DefaultPools()
	}
	for _, p := range opts.AddressPools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen()-2 {
			return nil, fmt.Errorf("address pool %s of size %d: the size must be from %d to %d bits", p.Base, p.Size, p.Base.Bits(), p.Base.Addr().BitLen()-2)
		}
	}
	m := &Manager{
		opts: opts, dns: filepath.Join(opts.RunDir, "dns"),
		networks: map[string]Network{}, leases: map[string]map[netip.Addr]Endpoint{}, cursor: map[string]netip.Addr{},
		virtual: map[string]map[netip.Addr]string{},
		claims:  map[hostPort]claims{}, fronts: newFronts(), connected: map[string]Sandbox{}, held: map[string]hold{},
		opened: time.Now(),
	}
	records, err := loadRecords(opts.Root)
	if err != nil {
		return nil, err
	}
	for _, n := range records {
		m.networks[n.Name] = n
	}
	for name := range builtin {
		if _, ok := m.networks[name]; !ok {
			m.networks[name] = Network{Name: name, ID: idOf(opts.Seed, name), Driver: name}
		}
	}
	return m, nil
}

// builtin networks exist without being made and are never removed.
var builtin = map[string]bool{"host": true, "none": true}

// Close gives nothing back: networks outlive the daemon.
func (m *Manager) Close() error { return nil }

// Get returns the network called name, or ErrNotFound.
func (m *Manager) Get(name string) (Network, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.networks[name]
	if !ok {
		return Network{}, fmt.Errorf("network %s: %w", name, ErrNotFound)
	}
	return n, nil
}

// List returns all networks by name, the built-in ones included.
func (m *Manager) List() []Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Network, 0, len(m.networks))
	for _, name := range slices.Sorted(maps.Keys(m.networks)) {
		out = append(out, m.networks[name])
	}
	return out
}

// Inspection is a network with the endpoints that hold addresses on it, by container name.
type Inspection struct {
	Network
	Endpoints []Endpoint `json:"endpoints"`
}

// Inspect returns a network and who is on it, or ErrNotFound.
func (m *Manager) Inspect(name string) (Inspection, error) {
	n, err := m.Get(name)
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{Network: n, Endpoints: m.endpointsOn(name)}, nil
}

func (m *Manager) driver(n Network) (Driver, error) {
	d, ok := m.opts.Drivers[n.Driver]
	if !ok {
		return nil, fmt.Errorf("network %s: driver %q: the drivers are %v: %w", n.Name, n.Driver, slices.Sorted(maps.Keys(m.opts.Drivers)), ErrUnsupported)
	}
	return d, nil
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
