package load

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// converter turns compose-go's project into a stack, checking values whose meaning the schema leaves open.
type converter struct {
	project  *types.Project
	tree     *tree
	options  Options
	findings *spec.Diagnostics
	stack    *spec.Stack
}

func convert(project *types.Project, t *tree, o Options, findings *spec.Diagnostics) *spec.Stack {
	c := &converter{project: project, tree: t, options: o, findings: findings}
	c.stack = &spec.Stack{
		Name:       project.Name,
		WorkingDir: project.WorkingDir,
		Profiles:   project.Profiles,
		Services:   map[string]*spec.Service{},
		Disabled:   map[string][]string{},
		Networks:   map[string]*spec.Network{},
		Volumes:    map[string]*spec.Volume{},
		Secrets:    map[string]*spec.File{},
		Configs:    map[string]*spec.File{},
	}
	for name, s := range project.DisabledServices {
		c.stack.Disabled[name] = s.Profiles
	}
	for key, n := range project.Networks {
		c.stack.Networks[key] = c.network(key, n)
	}
	for key, v := range project.Volumes {
		c.stack.Volumes[key] = c.volume(key, v)
	}
	for key, s := range project.Secrets {
		c.stack.Secrets[key] = c.file("secrets", key, types.FileObjectConfig(s))
	}
	for key, f := range project.Configs {
		c.stack.Configs[key] = c.file("configs", key, types.FileObjectConfig(f))
	}
	for name, s := range project.Services {
		c.stack.Services[name] = c.service(s)
	}
	for name, j := range project.DisabledJobs {
		c.stack.Disabled[name] = j.Profiles
	}
	for name, j := range project.Jobs {
		if c.stack.Jobs == nil {
			c.stack.Jobs = map[string]*spec.Job{}
		}
		c.stack.Jobs[name] = c.job(name, j)
	}
	c.stack.Policy = c.stackPolicy()
	c.sharedPorts()
	c.sharedNames()
	return c.stack
}

func (c *converter) refuse(path []string, remedy, format string, args ...any) {
	*c.findings = append(*c.findings, c.tree.diagnose(spec.Error, path, fmt.Sprintf(format, args...), remedy))
}

func (c *converter) warn(path []string, remedy, format string, args ...any) {
	*c.findings = append(*c.findings, c.tree.diagnose(spec.Warning, path, fmt.Sprintf(format, args...), remedy))
}

func (c *converter) network(key string, n types.NetworkConfig) *spec.Network {
	path := []string{"networks", key}
	switch n.Driver {
	case "", "default", "bridge", "host", "none", "null":
	default:
		c.refuse(join(path, "driver"), "use bridge, host or none", "the network driver %q is not supported yet", n.Driver)
	}
	if d := n.Ipam.Driver; d != "" && d != "default" {
		c.refuse(join(path, "ipam", "driver"), "take it out", "the address manager %q is not supported", d)
	}
	network := &spec.Network{
		Key:        key,
		Name:       n.Name,
		Driver:     n.Driver,
		DriverOpts: n.DriverOpts,
		External:   bool(n.External),
		Internal:   n.Internal,
		Attachable: n.Attachable,
		EnableIPv4: n.EnableIPv4,
		EnableIPv6: n.EnableIPv6,
		IPAMDriver: n.Ipam.Driver,
		Labels:     n.Labels,
	}
	for i, p := range n.Ipam.Config {
		if p == nil {
			continue
		}
		pool := spec.IPAMPool{Subnet: p.Subnet, IPRange: p.IPRange, Gateway: p.Gateway, Aux: p.AuxiliaryAddresses}
		c.checkPool(join(path, "ipam", "config", fmt.Sprint(i)), pool)
		network.IPAM = append(network.IPAM, pool)
	}
	return network
}

func (c *converter) volume(key string, v types.VolumeConfig) *spec.Volume {
	if v.Driver != "" && v.Driver != "local" {
		c.refuse([]string{"volumes", key, "driver"}, "use the driver local, whose driver_opts can mount NFS and CIFS",
			"the volume driver %q is not supported yet", v.Driver)
	}
	return &spec.Volume{
		Key:        key,
		Name:       v.Name,
		Driver:     v.Driver,
		DriverOpts: v.DriverOpts,
		External:   bool(v.External),
		Labels:     v.Labels,
	}
}

// file takes in a secret or config. What is in it counts into the digest of the services that use it.
func (c *converter) file(section, key string, f types.FileObjectConfig) *spec.File {
	path := []string{section, key}
	out := &spec.File{Name: f.Name, File: f.File, External: bool(f.External), Labels: f.Labels}
	switch {
	case out.External:
		c.refuse(join(path, "external"), "give it a `file` or `environment`", "external %s are for a swarm, where they are kept", section)
		return out
	case f.File != "":
		content, err := os.ReadFile(f.File)
		if err != nil {
			c.absent(join(path, "file"), "can't read %s: %s", f.File, cause(err))
			return out
		}
		out.Digest = contentDigest(content)
		return out
	case f.Environment != "":
		value, ok := c.project.Environment[f.Environment]
		if !ok {
			c.absent(join(path, "environment"), "the environment variable %q is not set", f.Environment)
			return out
		}
		out.Content = []byte(value)
	default:
		out.Content = []byte(f.Content)
	}
	out.Digest = contentDigest(out.Content)
	return out
}

// absent reports what is needed only to make containers.
func (c *converter) absent(path []string, format string, args ...any) {
	if c.options.Observing {
		c.warn(path, "", format, args...)
		return
	}
	c.refuse(path, "", format, args...)
}

func contentDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// sharedNames refuses two services that want the same container_name.
func (c *converter) sharedNames() {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.stack.Services)) {
		s := c.stack.Services[name]
		if s.ContainerName == "" {
			continue
		}
		if first, ok := owner[s.ContainerName]; ok {
			c.refuse([]string{"services", name, "container_name"}, "give each its own",
				"the name %q is that of the service %s, too", s.ContainerName, first)
			continue
		}
		owner[s.ContainerName] = name
	}
}
