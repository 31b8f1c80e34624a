package netdriver

import (
	"errors"

	"github.com/stack-run/stack/netdriver/dns"
)

// Rename gives a container another name in messages and in what its addresses resolve to. The names that it is found
// under stay as they are. The caller keeps the name in the container's record.
func (m *Manager) Rename(containerID, name string) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	var renamed []Endpoint
	m.mu.Lock()
	for _, leased := range m.leases {
		for a, e := range leased {
			if e.ContainerID != containerID {
				continue
			}
			e.Container = name
			leased[a] = e
			if e.IPv4.IsValid() && a == e.IPv4.Addr() || !e.IPv4.IsValid() {
				renamed = append(renamed, e)
			}
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, e := range renamed {
		errs = append(errs, dns.UpdateRecord(m.dns, e.Network, record(e)))
	}
	return errors.Join(errs...)
}
