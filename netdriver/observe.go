package netdriver

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/firewall"
)

// Observe tells in words what the kernel lacks of a network; nothing when all is there.
func (m *Manager) Observe(ctx context.Context, name string) ([]string, error) {
	n, err := m.Get(name)
	if err != nil {
		return nil, err
	}
	d, err := m.driver(n)
	if err != nil {
		return nil, err
	}
	return d.Observe(ctx, m.withVirtual(n))
}

// ObserveSandboxes tells in words, by container id, what is missing or differs of what Connect and Publish made for running
// containers: links, addresses, routes, the name service's redirection, names, published ports. Whoever lacks nothing is
// left out, and so is whoever has no network namespace any more. Each kind of thing is asked for once, not once a container,
// but for what only the container's own namespace tells. Connect and Publish bring back what is missing.
func (m *Manager) ObserveSandboxes(ctx context.Context, sandboxes []Sandbox) (map[string][]string, error) {
	sandboxes = slices.DeleteFunc(slices.Clone(sandboxes), func(s Sandbox) bool {
		known, inode := m.sandbox(s.ContainerID), namespace(s.Netns)
		return inode == 0 || known.Netns == s.Netns && known.inode != inode
	})
	if len(sandboxes) == 0 {
		return nil, nil
	}
	out := map[string][]string{}
	byDriver := map[string][]Sandbox{}
	networks := map[string]map[string]Network{}
	for _, s := range sandboxes {
		parts := map[string]Sandbox{}
		for _, e := range s.Endpoints {
			n, err := m.Get(e.Network)
			if err != nil {
				out[s.ContainerID] = append(out[s.ContainerID], fmt.Sprintf("network %s is not there", e.Network))
				continue
			}
			if networks[n.Driver] == nil {
				networks[n.Driver] = map[string]Network{}
			}
			networks[n.Driver][n.Name] = n
			part := parts[n.Driver]
			parts[n.Driver] = Sandbox{ContainerID: s.ContainerID, Netns: s.Netns, Endpoints: append(part.Endpoints, e)}
		}
		for driver, part := range parts {
			byDriver[driver] = append(byDriver[driver], part)
		}
	}
	for driver, list := range byDriver {
		d, ok := m.opts.Drivers[driver].(SandboxObserver)
		if !ok {
			continue
		}
		words, err := d.ObserveSandboxes(ctx, networks[driver], list)
		if err != nil {
			return nil, err
		}
		for id, w := range words {
			out[id] = append(out[id], w...)
		}
	}
	if err := m.observeRedirects(sandboxes, out); err != nil {
		return nil, err
	}
	m.observeNames(sandboxes, out)
	return out, m.observePublished(sandboxes, out)
}

// nsfs is the filesystem that namespaces are files of.
const nsfs = 0x6e736673

// namespace is the inode of the namespace that a path, such as that of a shim's open file, leads to; 0 when it leads to none.
func namespace(path string) uint64 {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != nsfs || unix.Stat(path, &file) != nil {
		return 0
	}
	return file.Ino
}

// observeRedirects looks for what sends questions of names to the name service.
func (m *Manager) observeRedirects(sandboxes []Sandbox, out map[string][]string) error {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, s := range sandboxes {
		if len(s.Endpoints) == 0 {
			continue
		}
		group.Go(func() error {
			ns, err := os.Open(s.Netns)
			if isGone(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("container %s: open network namespace: %w", s.ContainerID, err)
			}
			defer ns.Close()
			ok, err := firewall.Redirected(ns)
			if err != nil {
				return fmt.Errorf("container %s: its rules: %w", s.ContainerID, err)
			}
			if !ok {
				mu.Lock()
				defer mu.Unlock()
				out[s.ContainerID] = append(out[s.ContainerID], "the name service is not redirected")
			}
			return nil
		})
	}
	return group.Wait()
}

// observeNames looks for the records of the containers' names.
func (m *Manager) observeNames(sandboxes []Sandbox, out map[string][]string) {
	type place struct{ network, container string }
	m.publishing.Lock() // readiness and names change together
	defer m.publishing.Unlock()
	m.mu.Lock()
	readiness := map[place]Readiness{}
	for network, leased := range m.leases {
		for _, e := range leased {
			readiness[place{network, e.ContainerID}] = e.Readiness
		}
	}
	m.mu.Unlock()
	for _, s := range sandboxes {
		for _, e := range s.Endpoints {
			if r, ok := readiness[place{e.Network, e.ContainerID}]; ok {
				e.Readiness = r
			}
			if !dns.HasRecord(m.dns, e.Network, record(e)) {
				out[s.ContainerID] = append(out[s.ContainerID], fmt.Sprintf("its names on network %s are missing", e.Network))
			}
		}
	}
}

// observePublished looks for the mappings that lead to the containers.
func (m *Manager) observePublished(sandboxes []Sandbox, out map[string][]string) error {
	m.publishing.Lock() // what is known and what the kernel has don't change meanwhile
	defer m.publishing.Unlock()
	have, err := m.opts.Firewall.Mappings()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	inKernel := byFront(have)
	differs := map[firewall.Mapping]bool{}
	for _, s := range sandboxes {
		want, err := m.mappings(s.ContainerID, s.Endpoints)
		if err != nil {
			out[s.ContainerID] = append(out[s.ContainerID], "its ports are not reserved")
			continue
		}
		for _, w := range want {
			front := w.Front()
			if _, ok := m.fronts.behind[front][s.ContainerID]; !ok {
				out[s.ContainerID] = append(out[s.ContainerID], describe(front)+" does not lead to it")
				continue
			}
			bad, seen := differs[front]
			if !seen {
				bad = differ(m.fronts.entered[front], inKernel[front])
				differs[front] = bad
				m.fronts.entered[front] = inKernel[front] // so that Publish finds what to do
			}
			if bad {
				out[s.ContainerID] = append(out[s.ContainerID], describe(front)+" leads elsewhere")
			}
		}
	}
	return nil
}

// differ tells whether two lists have not the same mappings.
func differ(want, have []firewall.Mapping) bool {
	if len(want) != len(have) {
		return true
	}
	index := make(map[firewall.Mapping]bool, len(have))
	for _, h := range have {
		index[h] = true
	}
	for _, w := range want {
		if !index[w] {
			return true
		}
	}
	return false
}

// describe names a front as users know it.
func describe(front firewall.Mapping) string {
	switch {
	case front.Protocol == "":
		return fmt.Sprintf("the virtual address %s", front.Host.Addr())
	case front.Host.Addr().IsValid():
		return fmt.Sprintf("the published port %s/%s", front.Host, front.Protocol)
	}
	return fmt.Sprintf("the published port %d/%s", front.Host.Port(), front.Protocol)
}
