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
	var records []Record
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
		records = append(records, r)
	}
	ranks := map[sharedName]int{}
	for _, r := range records {
		for _, name := range r.Shared {
			key := sharedName{r.Group, strings.ToLower(name)}
			if best, ok := ranks[key]; !ok || r.Rank < best {
				ranks[key] = r.Rank
			}
		}
	}
	for _, r := range records {
		for _, name := range r.Names {
			z.add(strings.ToLower(name), r, ranks)
		}
		for _, a := range r.Addresses {
			z.hosts[a] = r.Container
		}
		for _, a := range r.Virtual {
			if len(r.Shared) > 0 {
				z.hosts[a] = r.Shared[0]
			}
		}
	}
	return z
}

type sharedName struct{ group, name string }

// add enters what a record says of one of its names.
func (z *zone) add(name string, r Record, ranks map[sharedName]int) {
	addresses := r.Addresses
	if slices.ContainsFunc(r.Shared, func(s string) bool { return strings.ToLower(s) == name }) {
		switch {
		case len(r.Virtual) > 0:
			addresses = r.Virtual
		case r.Rank > ranks[sharedName{r.Group, name}]:
			return
		}
	}
	for _, a := range addresses {
		if !slices.Contains(z.names[name], a) {
			z.names[name] = append(z.names[name], a)
		}
	}
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
