package dns

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// zone is what a network's records say, as of the folder's modification time.
type zone struct {
	modified time.Time
	settled  bool // the folder was old enough when read: a later change must show in its time
	names    map[string][]netip.Addr
	hosts    map[netip.Addr]string // container names by address
}

// clockStep is more than the steps in which filesystems count time: two changes closer than this may carry one time.
const clockStep = 20 * time.Millisecond

// zones caches the records of all networks for all containers of a shim.
type zones struct {
	dir string
	mu  sync.Mutex
	all map[string]*zone
}

// get returns a network's zone, read again if the folder has changed; an empty one for a network without records.
func (z *zones) get(network string) *zone {
	folder := filepath.Join(z.dir, network)
	z.mu.Lock()
	defer z.mu.Unlock()
	info, err := os.Stat(folder)
	if err != nil {
		delete(z.all, network)
		return &zone{}
	}
	if have := z.all[network]; have != nil && have.settled && have.modified.Equal(info.ModTime()) {
		return have
	}
	fresh := readZone(folder)
	fresh.modified, fresh.settled = info.ModTime(), time.Since(info.ModTime()) > clockStep
	z.all[network] = fresh
	return fresh
}

func readZone(folder string) *zone {
	z := &zone{names: map[string][]netip.Addr{}, hosts: map[netip.Addr]string{}}
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), recordSuffix) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			continue // removed meanwhile
		}
		var r Record
		if json.Unmarshal(b, &r) != nil {
			continue // not one of ours
		}
		for _, name := range r.Names {
			key := strings.ToLower(name)
			for _, a := range r.Addresses {
				if !slices.Contains(z.names[key], a) {
					z.names[key] = append(z.names[key], a)
				}
			}
		}
		for _, a := range r.Addresses {
			z.hosts[a] = r.Container
		}
	}
	return z
}

// lookup finds the addresses of a name for one container. known tells that the name exists, be it without addresses of
// the family asked for.
func (z *zones) lookup(cfg *Config, name string, want6 bool) (addrs []netip.Addr, known bool) {
	name = strings.ToLower(name)
	targets := []string{name}
	if links := cfg.link(name); len(links) > 0 {
		targets = links
	}
	for _, network := range cfg.Networks {
		zone := z.get(network)
		for _, target := range targets {
			found := zone.names[target]
			if found == nil {
				// A name qualified by its network: "db.stack_default".
				if short, ok := strings.CutSuffix(target, "."+strings.ToLower(network)); ok {
					found = zone.names[short]
				}
			}
			known = known || found != nil
			for _, a := range found {
				if a.Is6() == want6 {
					addrs = append(addrs, a)
				}
			}
		}
		if len(addrs) > 0 {
			return addrs, true
		}
	}
	return nil, known
}

// link gives the names that an alias of the container's links stands for.
func (c *Config) link(name string) (out []string) {
	for alias, targets := range c.Links {
		if strings.ToLower(alias) == name {
			for _, t := range targets {
				out = append(out, strings.ToLower(t))
			}
		}
	}
	return out
}

// reverse finds the name of an address: "<container>.<network>".
func (z *zones) reverse(cfg *Config, a netip.Addr) (string, bool) {
	for _, network := range cfg.Networks {
		if name := z.get(network).hosts[a]; name != "" {
			return name + "." + network, true
		}
	}
	return "", false
}
