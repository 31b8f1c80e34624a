// Package dns is the name service of containers: it answers on 127.0.0.11 inside each container's network namespace,
// from the shim's process, so that names work while the daemon is down.
//
// Names are files: <dir>/<network>/<container id>.json, each a Record, written by netdriver when a container is
// connected and removed when it is disconnected or its shim sees it exit. A resolver reads a network's folder when its
// modification time changes, so that stacks sharing a network see each other's names without talking to each other.
package dns

import "net/netip"

// Record is one container's names and addresses on one network.
type Record struct {
	ContainerID string       `json:"container_id"`
	Container   string       `json:"container,omitempty"` // its name, which an address resolves back to
	Names       []string     `json:"names"`
	Addresses   []netip.Addr `json:"addresses"`

	// Group is the containers that share names: Shared are those among Names. They resolve to the group's Virtual addresses
	// where it has some, else to the containers of the lowest rank that is there.
	Group   string       `json:"group,omitempty"`
	Shared  []string     `json:"shared,omitempty"`
	Virtual []netip.Addr `json:"virtual,omitempty"`
	Rank    int          `json:"rank,omitempty"`
}

// Config is what one container's resolver answers from.
type Config struct {
	Networks []string            `json:"networks"`          // in the order they are asked
	Links    map[string][]string `json:"links,omitempty"`   // alias to the names it stands for
	Servers  []string            `json:"servers,omitempty"` // upstream; empty takes the host's /etc/resolv.conf
	Closed   bool                `json:"closed,omitempty"`  // only internal networks: nothing is forwarded
}
