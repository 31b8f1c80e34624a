package hostconfig

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec/strictyaml"
)

var snapshotters = []string{"overlay", "native", "btrfs", "devmapper", "zfs"}

// Parse reads a configuration. All findings come at once, as spec.Diagnostics with positions in file.
func Parse(file string, text []byte) (Config, error) {
	config := Default()
	p := &parser{strictyaml.Reader{File: file}}
	if top := p.Top(text); top != nil {
		p.config(top, &config)
	}
	if len(p.Found) > 0 {
		return Config{}, p.Found
	}
	return config, nil
}

// parser knows the keys.
type parser struct{ strictyaml.Reader }

func (p *parser) config(n *yaml.Node, c *Config) {
	p.mapping(n, "", map[string]func(string, *yaml.Node){
		"registries": func(path string, n *yaml.Node) {
			c.Registries = map[string]Registry{}
			p.Pairs(n, path, func(name *yaml.Node, path string, n *yaml.Node) { c.Registries[name.Value] = p.registry(path, n) })
		},
		"snapshotter": func(path string, n *yaml.Node) {
			c.Snapshotter = p.Text(n, path)
			if c.Snapshotter != "" && !slices.Contains(snapshotters, c.Snapshotter) {
				p.Refuse(n, path, fmt.Sprintf("no snapshotter is called %q", c.Snapshotter), "use one of "+strings.Join(snapshotters, ", "))
			}
		},
		"runtime": func(path string, n *yaml.Node) { c.Runtime = p.Text(n, path) },
		"runtimes": func(path string, n *yaml.Node) {
			c.Runtimes = map[string]Runtime{}
			p.Pairs(n, path, func(name *yaml.Node, path string, n *yaml.Node) { c.Runtimes[name.Value] = p.runtime(path, n) })
		},
		"addressPools": func(path string, n *yaml.Node) {
			p.List(n, path, func(_ int, path string, n *yaml.Node) { c.AddressPools = append(c.AddressPools, p.pool(path, n)) })
		},
		"logs": func(path string, n *yaml.Node) { p.logs(path, n, &c.Logs) },
	})
	if c.Runtime != "" && c.Runtime != "embedded" {
		if _, ok := c.Runtimes[c.Runtime]; !ok {
			p.Refuse(n, "runtime", fmt.Sprintf("runtime %q is not among the runtimes", c.Runtime), "add it below runtimes, or use embedded")
		}
	}
}

func (p *parser) registry(path string, n *yaml.Node) (r Registry) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"mirrors": func(path string, n *yaml.Node) {
			p.List(n, path, func(_ int, path string, n *yaml.Node) {
				mirror := p.Text(n, path)
				if u, err := url.Parse(mirror); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
					p.Refuse(n, path, fmt.Sprintf("%q is not the URL of a mirror", mirror), "write it as http://host:port or https://host")
					return
				}
				r.Mirrors = append(r.Mirrors, mirror)
			})
		},
		"plainHTTP": func(path string, n *yaml.Node) {
			value, err := strconv.ParseBool(p.Text(n, path))
			if err != nil {
				p.Refuse(n, path, "not a boolean", "write true or false")
			}
			r.PlainHTTP = value
		},
	})
	return r
}

func (p *parser) runtime(path string, n *yaml.Node) (r Runtime) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"path": func(path string, n *yaml.Node) { r.Path = p.Text(n, path) },
		"args": func(path string, n *yaml.Node) {
			p.List(n, path, func(_ int, path string, n *yaml.Node) { r.Args = append(r.Args, p.Text(n, path)) })
		},
	})
	if !filepath.IsAbs(r.Path) {
		p.Refuse(n, path, "a runtime needs the absolute path of its program", "path: /usr/bin/crun")
	}
	return r
}

func (p *parser) pool(path string, n *yaml.Node) (pool AddressPool) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"base": func(path string, n *yaml.Node) {
			base, err := netip.ParsePrefix(p.Text(n, path))
			if err != nil {
				p.Refuse(n, path, "not an address range", "write it as 10.210.0.0/16")
				return
			}
			pool.Base = base.Masked()
		},
		"size": func(path string, n *yaml.Node) { pool.Size = p.number(path, n) },
	})
	if pool.Base.IsValid() && (pool.Size < pool.Base.Bits() || pool.Size > pool.Base.Addr().BitLen()-2) {
		p.Refuse(n, path, fmt.Sprintf("no subnets of size %d fit into %s", pool.Size, pool.Base),
			fmt.Sprintf("size is a prefix length from %d to %d", pool.Base.Bits(), pool.Base.Addr().BitLen()-2))
	}
	return pool
}

func (p *parser) logs(path string, n *yaml.Node, l *Logs) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"maxSize": func(path string, n *yaml.Node) {
			size, err := units.RAMInBytes(p.Text(n, path))
			if err != nil || size < 0 {
				p.Refuse(n, path, "not a size", "write it as 50m")
			}
			l.MaxSize = size
		},
		"maxFiles": func(path string, n *yaml.Node) {
			if l.MaxFiles = p.number(path, n); l.MaxFiles < 1 {
				p.Refuse(n, path, "at least one file is needed", "write a number from 1")
			}
		},
		"retain": func(path string, n *yaml.Node) {
			retain, err := time.ParseDuration(p.Text(n, path))
			if err != nil || retain <= 0 {
				p.Refuse(n, path, "not a duration", "write it as 168h")
			}
			l.Retain = retain
		},
	})
}

// mapping hands the value of each key to its function; unknown and repeated keys are refused.
func (p *parser) mapping(n *yaml.Node, path string, known map[string]func(path string, n *yaml.Node)) {
	p.Pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) {
		if read, ok := known[key.Value]; ok {
			read(path, value)
			return
		}
		p.Unknown(key, path, slices.Collect(maps.Keys(known)))
	})
}

func (p *parser) number(path string, n *yaml.Node) int {
	value, err := strconv.Atoi(p.Text(n, path))
	if err != nil {
		p.Refuse(n, path, "not a number", "")
	}
	return value
}
