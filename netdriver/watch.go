package netdriver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/dump"
)

// Drift is what somebody else did to a network, or to a container's connection. One of the two is named.
type Drift struct {
	Network     string
	ContainerID string
	Words       []string // what is missing or differs, as Observe and ObserveSandboxes tell it
}

// Tracer is a Driver that can tell which of the host's links is a container's.
type Tracer interface {
	// Port is the name of the host's end of a container's link to a network.
	Port(network, containerID string) string
}

// settleTime is how long announcements are gathered before anybody looks: one deed makes many of them.
const settleTime = 5 * time.Millisecond

// Watch tells what others do to networks and containers, a few milliseconds after: links, addresses, routes and rules that
// went, on the host and inside the containers' namespaces, the host's forwarding. The kernel's announcements say only where to
// look; what is sent has been looked at, so what this Manager does itself, and what was put right meanwhile, is not told. Settings of links are not
// announced, nor are the records of names: a slow pass with Observe and ObserveSandboxes finds those.
// The channel is closed when ctx ends.
func (m *Manager) Watch(ctx context.Context) (<-chan Drift, error) {
	links, err := announcements(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return nil, err
	}
	rules, err := announcements(unix.NETLINK_NETFILTER, nfTables)
	if err != nil {
		links.Close()
		return nil, err
	}
	w := &watcher{m: m, namespaces: map[string]int{}, heard: make(chan suspicion, 256), out: make(chan Drift)}
	if err := w.learn(); err != nil {
		links.Close()
		rules.Close()
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		links.Close()
		rules.Close()
	})
	tell := func(s suspicion) {
		select {
		case w.heard <- s:
		case <-ctx.Done():
		}
	}
	lost := func() { tell(suspicion{lost: true}) }
	fw := m.opts.Firewall
	go hear(links, func(msg syscall.NetlinkMessage, ns int) {
		if s, ok := aboutLinks(msg, ns); ok {
			tell(s)
		}
	}, lost)
	go hear(rules, func(msg syscall.NetlinkMessage, ns int) {
		if s, ok := aboutRules(msg, ns, fw.Name(), fw.Own); ok {
			tell(s)
		}
	}, lost)
	go w.run(ctx)
	return w.out, nil
}

type watcher struct {
	m *Manager
	// namespaces by the host's ends of links that lead into them: the kernel's numbers, which it uses again.
	namespaces map[string]int
	heard      chan suspicion
	out        chan Drift
}

// learn finds the namespaces of links that are there.
func (w *watcher) learn() error {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Type() == "veth" {
			w.namespaces[l.Attrs().Name] = l.Attrs().NetNsID
		}
	}
	return nil
}

// suspects is what has to be looked at.
type suspects struct {
	links      map[string]bool
	indices    map[int]bool
	namespaces map[int]bool
	table      bool
	all        bool
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.out)
	var found *suspects
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.heard:
			switch {
			case s.portOff:
				// What is inside goes with the link, which is told by its name.
				delete(w.namespaces, s.port)
			case s.port != "":
				w.namespaces[s.port] = s.portNS
			}
			if s.link == "" && s.index == 0 && !s.nsSet && !s.table && !s.hosts && !s.lost {
				continue
			}
			if found == nil {
				found = &suspects{links: map[string]bool{}, indices: map[int]bool{}, namespaces: map[int]bool{}}
				due = time.After(settleTime)
			}
			found.add(s)
		case <-due:
			w.look(ctx, *found)
			found, due = nil, nil
		}
	}
}

func (f *suspects) add(s suspicion) {
	if s.link != "" {
		f.links[s.link] = true
	}
	if s.index != 0 {
		f.indices[s.index] = true
	}
	if s.nsSet {
		f.namespaces[s.ns] = true
	}
	f.table = f.table || s.table
	f.all = f.all || s.hosts || s.lost
}

// look finds out what is behind suspicions, and tells it.
func (w *watcher) look(ctx context.Context, f suspects) {
	for index := range f.indices {
		if l, err := netlink.LinkByIndex(index); err == nil { // one that went is told by its name
			f.links[l.Attrs().Name] = true
		}
	}
	networks, containers := w.concerned(f)
	for _, name := range networks {
		words, err := w.observe(ctx, name)
		if err != nil {
			w.m.opts.Logf("watch network %s: %v", name, err)
		}
		w.tell(ctx, Drift{Network: name, Words: words})
	}
	drift, err := w.m.ObserveSandboxes(ctx, containers)
	if err != nil && ctx.Err() == nil {
		w.m.opts.Logf("watch containers: %v", err)
	}
	for _, id := range slices.Sorted(maps.Keys(drift)) {
		if len(w.m.sandbox(id).Endpoints) > 0 { // not disconnected meanwhile
			w.tell(ctx, Drift{ContainerID: id, Words: drift[id]})
		}
	}
}

// observe waits for what is at work on networks: one in the making looks like one that broke.
func (w *watcher) observe(ctx context.Context, name string) ([]string, error) {
	w.m.kernel.Lock()
	defer w.m.kernel.Unlock()
	if _, err := w.m.Get(name); err != nil {
		return nil, nil // removed meanwhile
	}
	return w.m.Observe(ctx, name)
}

func (w *watcher) tell(ctx context.Context, d Drift) {
	if len(d.Words) == 0 {
		return
	}
	select {
	case w.out <- d:
	case <-ctx.Done():
	}
}

// concerned finds the networks and containers that suspicions are about.
func (w *watcher) concerned(f suspects) (networks []string, containers []Sandbox) {
	for _, n := range w.m.List() {
		if n.Link != "" && (f.all || f.table || f.links[n.Link]) {
			networks = append(networks, n.Name)
		}
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	for _, s := range w.m.connected {
		if f.all || f.table || w.suspected(f, s) {
			containers = append(containers, s)
		}
	}
	return networks, containers
}

// suspected tells whether a suspicion is about a container's connections. The caller holds the Manager's mu.
func (w *watcher) suspected(f suspects, s Sandbox) bool {
	if len(f.links)+len(f.namespaces) == 0 {
		return false
	}
	return slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool {
		n := w.m.networks[e.Network]
		tracer, ok := w.m.opts.Drivers[n.Driver].(Tracer)
		if !ok {
			return false
		}
		port := tracer.Port(e.Network, s.ContainerID)
		ns, known := w.namespaces[port]
		return f.links[port] || f.links[n.Link] || known && ns != hostNS && f.namespaces[ns]
	})
}
