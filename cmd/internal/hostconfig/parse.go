package hostconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

var snapshotters = []string{"overlay", "native", "btrfs", "devmapper", "zfs"}

// Parse reads a configuration. All findings come at once, as spec.Diagnostics with positions in file.
func Parse(file string, text []byte) (Config, error) {
	config := Default()
	p := &parser{file: file}
	var document yaml.Node
	switch err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&document); {
	case errors.Is(err, io.EOF):
		return config, nil // an empty file
	case err != nil:
		p.syntax(err)
	default:
		p.config(document.Content[0], &config)
	}
	if len(p.found) > 0 {
		return Config{}, p.found
	}
	return config, nil
}

// parser collects findings while it walks the nodes of one file.
type parser struct {
	file  string
	found spec.Diagnostics
}

func (p *parser) config(n *yaml.Node, c *Config) {
	p.mapping(n, "", map[string]func(string, *yaml.Node){
		"registries": func(path string, n *yaml.Node) {
			c.Registries = map[string]Registry{}
			p.each(n, path, func(name, path string, n *yaml.Node) { c.Registries[name] = p.registry(path, n) })
		},
		"snapshotter": func(path string, n *yaml.Node) {
			c.Snapshotter = p.text(path, n)
			if c.Snapshotter != "" && !slices.Contains(snapshotters, c.Snapshotter) {
				p.refuse(n, path, fmt.Sprintf("no snapshotter is called %q", c.Snapshotter), "use one of "+strings.Join(snapshotters, ", "))
			}
		},
		"runtime": func(path string, n *yaml.Node) { c.Runtime = p.text(path, n) },
		"runtimes": func(path string, n *yaml.Node) {
			c.Runtimes = map[string]Runtime{}
			p.each(n, path, func(name, path string, n *yaml.Node) { c.Runtimes[name] = p.runtime(path, n) })
		},
		"addressPools": func(path string, n *yaml.Node) {
			p.list(n, path, func(path string, n *yaml.Node) { c.AddressPools = append(c.AddressPools, p.pool(path, n)) })
		},
		"logs": func(path string, n *yaml.Node) { p.logs(path, n, &c.Logs) },
	})
	if c.Runtime != "" && c.Runtime != "embedded" {
		if _, ok := c.Runtimes[c.Runtime]; !ok {
			p.refuse(n, "runtime", fmt.Sprintf("runtime %q is not among the runtimes", c.Runtime), "add it below runtimes, or use embedded")
		}
	}
}

func (p *parser) registry(path string, n *yaml.Node) (r Registry) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"mirrors": func(path string, n *yaml.Node) {
			p.list(n, path, func(path string, n *yaml.Node) {
				mirror := p.text(path, n)
				if u, err := url.Parse(mirror); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
					p.refuse(n, path, fmt.Sprintf("%q is not the URL of a mirror", mirror), "write it as http://host:port or https://host")
					return
				}
				r.Mirrors = append(r.Mirrors, mirror)
			})
		},
		"plainHTTP": func(path string, n *yaml.Node) {
			value, err := strconv.ParseBool(p.text(path, n))
			if err != nil {
				p.refuse(n, path, "not a boolean", "write true or false")
			}
			r.PlainHTTP = value
		},
	})
	return r
}

func (p *parser) runtime(path string, n *yaml.Node) (r Runtime) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"path": func(path string, n *yaml.Node) { r.Path = p.text(path, n) },
		"args": func(path string, n *yaml.Node) {
			p.list(n, path, func(path string, n *yaml.Node) { r.Args = append(r.Args, p.text(path, n)) })
		},
	})
	if !filepath.IsAbs(r.Path) {
		p.refuse(n, path, "a runtime needs the absolute path of its program", "path: /usr/bin/crun")
	}
	return r
}

func (p *parser) pool(path string, n *yaml.Node) (pool AddressPool) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"base": func(path string, n *yaml.Node) {
			base, err := netip.ParsePrefix(p.text(path, n))
			if err != nil {
				p.refuse(n, path, "not an address range", "write it as 10.210.0.0/16")
				return
			}
			pool.Base = base.Masked()
		},
		"size": func(path string, n *yaml.Node) { pool.Size = p.number(path, n) },
	})
	if pool.Base.IsValid() && (pool.Size < pool.Base.Bits() || pool.Size > pool.Base.Addr().BitLen()-2) {
		p.refuse(n, path, fmt.Sprintf("no subnets of size %d fit into %s", pool.Size, pool.Base),
			fmt.Sprintf("size is a prefix length from %d to %d", pool.Base.Bits(), pool.Base.Addr().BitLen()-2))
	}
	return pool
}

func (p *parser) logs(path string, n *yaml.Node, l *Logs) {
	p.mapping(n, path, map[string]func(string, *yaml.Node){
		"maxSize": func(path string, n *yaml.Node) {
			size, err := units.RAMInBytes(p.text(path, n))
			if err != nil || size < 0 {
				p.refuse(n, path, "not a size", "write it as 50m")
			}
			l.MaxSize = size
		},
		"maxFiles": func(path string, n *yaml.Node) {
			if l.MaxFiles = p.number(path, n); l.MaxFiles < 1 {
				p.refuse(n, path, "at least one file is needed", "write a number from 1")
			}
		},
		"retain": func(path string, n *yaml.Node) {
			retain, err := time.ParseDuration(p.text(path, n))
			if err != nil || retain <= 0 {
				p.refuse(n, path, "not a duration", "write it as 168h")
			}
			l.Retain = retain
		},
	})
}

// mapping hands the value of each key to its function; unknown and repeated keys are refused.
func (p *parser) mapping(n *yaml.Node, path string, known map[string]func(path string, n *yaml.Node)) {
	p.pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) {
		if read, ok := known[key.Value]; ok {
			read(path, value)
			return
		}
		names := make([]string, 0, len(known))
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		remedy := "known keys: " + strings.Join(names, ", ")
		if near := spec.Closest(key.Value, names); near != "" {
			remedy = fmt.Sprintf("did you mean %s?", near)
		}
		p.refuse(key, path, "unknown key", remedy)
	})
}

// each hands every value of a mapping with free keys to f.
func (p *parser) each(n *yaml.Node, path string, f func(name, path string, n *yaml.Node)) {
	p.pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) { f(key.Value, path, value) })
}

func (p *parser) pairs(n *yaml.Node, path string, f func(key *yaml.Node, path string, value *yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.refuse(n, path, "not a mapping", "write it as key: value")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		full := key.Value
		if path != "" {
			full = path + "." + key.Value
		}
		if seen[key.Value] {
			p.refuse(key, full, "given twice", "remove one of them")
			continue
		}
		seen[key.Value] = true
		f(key, full, n.Content[i+1])
	}
}

func (p *parser) list(n *yaml.Node, path string, f func(path string, n *yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.refuse(n, path, "not a list", "write it as [a, b]")
		return
	}
	for i, item := range n.Content {
		f(fmt.Sprintf("%s[%d]", path, i), item)
	}
}

func (p *parser) text(path string, n *yaml.Node) string {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode {
		p.refuse(n, path, "not a single value", "")
		return ""
	}
	return n.Value
}

func (p *parser) number(path string, n *yaml.Node) int {
	value, err := strconv.Atoi(p.text(path, n))
	if err != nil {
		p.refuse(n, path, "not a number", "")
	}
	return value
}

func (p *parser) refuse(n *yaml.Node, path, summary, remedy string) {
	p.found = append(p.found, spec.Diagnostic{
		Severity: spec.Error, File: p.file, Line: n.Line, Column: n.Column, Path: path, Summary: summary, Remedy: remedy,
	})
}

// yaml.v3 has the position of a syntax error in its text only.
var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func (p *parser) syntax(err error) {
	d := spec.Diagnostic{Severity: spec.Error, File: p.file, Summary: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		d.Line, _ = strconv.Atoi(m[1])
		d.Column, d.Summary = 1, m[2]
	}
	p.found = append(p.found, d)
}

// resolve follows an alias to what it stands for. An alias can't stand for another one.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
