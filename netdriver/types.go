// Package netdriver makes networks and connects containers to them.
//
// A network is recorded in <root>/networks/<name>.json before anything of it exists in the kernel. The Manager owns the
// records, address allocation, name service files and published ports; a Driver (one folder each: bridge, host, none)
// owns the links. Names in the kernel (links, nftables tables) derive from the daemon's root folder, so that several
// daemons on one kernel never collide. Kernel work is batched: one nftables transaction and one netlink pass a call,
// whatever the number of endpoints in it.
package netdriver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/stack-run/stack/netdriver/loopback6"
)

// Errors are classified by these; each is wrapped with names and the remedy.
var (
	ErrNotFound    = errors.New("network not found")
	ErrInUse       = errors.New("network is in use")
	ErrOverlap     = errors.New("subnet overlaps")
	ErrExhausted   = errors.New("no free address")
	ErrPortInUse   = errors.New("port is already in use")
	ErrUnsupported = errors.New("not supported by this network driver")
	ErrConflict    = errors.New("network exists with other options")
)

// Network is one network of this host, as recorded.
type Network struct {
	Name     string            `json:"name"` // unique on this daemon
	ID       string            `json:"id"`   // 64 hex digits
	Driver   string            `json:"driver"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Internal bool              `json:"internal,omitempty"`
	IPv4     bool              `json:"ipv4"`
	IPv6     bool              `json:"ipv6,omitempty"`
	// Subnets as asked for; after Ensure with what was allocated filled in.
	Subnets []Subnet  `json:"subnets,omitempty"`
	Stack   string    `json:"stack,omitempty"` // the stack that made it; empty for host-wide ones
	Created time.Time `json:"created"`
	Link    string    `json:"link,omitempty"` // the bridge's name in the kernel
	// Room is how many containers are to come, when asking: a subnet that Ensure chooses has room for twice as many.
	Room int `json:"-"`
	// Virtual addresses of groups, which the host answers on this network. The Manager fills them in for its drivers.
	Virtual []netip.Addr `json:"-"`
}

// Subnet of a network. Gateway and Range are filled in by Ensure where the file leaves them out.
type Subnet struct {
	Prefix  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"ip_range,omitzero"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux_addresses,omitempty"`
}

// Endpoint is one container's place on one network: asked for by the reconciler, completed by Connect, kept in the
// container's record (which makes the container records the one truth about leases).
type Endpoint struct {
	Network     string       `json:"network"` // Network.Name
	ContainerID string       `json:"container_id"`
	Container   string       `json:"container"`     // container name, for messages
	Interface   string       `json:"interface"`     // name in the container: eth0, eth1, ...
	IPv4        netip.Prefix `json:"ipv4,omitzero"` // valid when asking: a static address
	IPv6        netip.Prefix `json:"ipv6,omitzero"`
	MAC         string       `json:"mac,omitempty"`
	Names       []string     `json:"names"`             // service name, aliases, container name, short id
	Gateway     bool         `json:"gateway,omitempty"` // this network carries the default route
	Ports       []Port       `json:"ports,omitempty"`   // published through this endpoint
	Static4     bool         `json:"static4,omitempty"` // the address was asked for in the file
	Static6     bool         `json:"static6,omitempty"`
	// Group is whom the container shares fixed host ports and its names with, "<stack>/<service>"; empty: nobody.
	Group     string    `json:"group,omitempty"`
	Readiness Readiness `json:"readiness,omitempty"` // the same on all of the container's networks
	// WantVIP asks for an address of the group's on this network beside the container's own; VIP4 and VIP6 are it.
	WantVIP bool       `json:"want_vip,omitempty"`
	VIP4    netip.Addr `json:"vip4,omitzero"`
	VIP6    netip.Addr `json:"vip6,omitzero"`
}

// Readiness tells whether a container takes new connections to the ports, names and virtual addresses of its group. Those
// it has stay with it, whatever becomes of its readiness.
type Readiness string

const (
	Serving Readiness = ""        // takes its share
	Standby Readiness = "standby" // only while none of the group is Serving
	Drained Readiness = "drained" // never; its names resolve to it only while no other's do
)

// Holder is who reserves host ports. Containers of one group can have the same fixed port.
type Holder struct{ ContainerID, Name, Group string }

// Port is a published port. HostPort 0 (with HostPortEnd 0) asks the host to choose; a range takes the first free.
type Port struct {
	HostIP      netip.Addr `json:"host_ip,omitzero"` // invalid: all addresses, IPv4 and IPv6
	HostPort    uint16     `json:"host_port"`
	HostPortEnd uint16     `json:"host_port_end,omitempty"`
	Target      uint16     `json:"target"`
	Protocol    string     `json:"protocol"`
}

// Sandbox is a network namespace to connect endpoints in.
type Sandbox struct {
	ContainerID string
	Netns       string // path, such as /proc/<shim>/fd/<n>
	Endpoints   []Endpoint

	// inode of the namespace when it was connected: a path like that comes to lead to another container's.
	inode uint64
}

// Reservation holds the host ports of one container, so that no other program takes them: sockets bound but not
// listening. Whoever keeps the files open (the shim) keeps the ports.
type Reservation struct {
	ContainerID string
	Files       []*os.File
	// ipv6 are the files that package loopback6 can serve.
	ipv6 []forward
}

type forward struct {
	file int
	port uint16         // of the container
	via  netip.AddrPort // where the kernel serves the same port; invalid when it doesn't
}

// Forwards lists what the holder of the files serves by itself with package loopback6, once the container's endpoint
// is known: IPv6 clients that address translation cannot serve.
func (r Reservation) Forwards(e Endpoint) (out []loopback6.Forward) {
	target := e.IPv6.Addr()
	if !target.IsValid() {
		target = e.IPv4.Addr()
	}
	for _, f := range r.ipv6 {
		switch {
		case e.Group != "" && e.IPv4.IsValid() && f.via.IsValid():
			out = append(out, loopback6.Forward{File: f.file, Target: f.via}) // balanced there
		case target.IsValid():
			out = append(out, loopback6.Forward{File: f.file, Target: netip.AddrPortFrom(target, f.port)})
		}
	}
	return out
}

// Close closes the daemon's copies of the files, once they are in the hands of the shim or the start has failed.
func (r Reservation) Close() error {
	var errs []error
	for _, f := range r.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Answerer is a Driver that can make the host answer at virtual addresses on a network.
type Answerer interface {
	// Answer makes the host answer at n.Virtual, and at no other virtual address of the network.
	Answer(ctx context.Context, n Network) error
}

// SandboxObserver is a Driver that can tell what is missing of sandboxes' links.
type SandboxObserver interface {
	// ObserveSandboxes tells in words, by container id, what is missing or differs of endpoints on the driver's networks,
	// which are given by name. Whoever lacks nothing, or is gone, is left out.
	ObserveSandboxes(ctx context.Context, networks map[string]Network, sandboxes []Sandbox) (map[string][]string, error)
}

// Driver makes the links of one kind of network. Every method is idempotent; Remove and Disconnect of what is not
// there succeed.
type Driver interface {
	// Validate refuses what the driver can't do, before anything is touched.
	Validate(Network) error
	Create(context.Context, *Network) error
	Remove(context.Context, Network) error
	// Observe tells what is missing or differs in the kernel, as words for a plan; empty when all is there.
	Observe(context.Context, Network) ([]string, error)
	// Connect makes links, addresses and routes of the endpoints on this network, all sandboxes in one batch.
	Connect(context.Context, Network, []Sandbox) error
	Disconnect(context.Context, Network, []Sandbox) error
}
