package load

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// mounts are the volumes in the file's order, then the tmpfs.
func (c *converter) mounts(at []string, s types.ServiceConfig) []spec.Mount {
	var all []spec.Mount
	for _, v := range s.Volumes {
		here := c.mountPath(at, v)
		m := spec.Mount{Type: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		c.shortOptions(here)
		if !path.IsAbs(m.Target) {
			c.refuse(here, "begin it with /", "the mount point %q is not an absolute path", m.Target)
			continue
		}
		switch v.Type {
		case spec.MountBind:
			c.bind(here, v, &m)
		case spec.MountVolume:
			if v.Volume != nil {
				m.NoCopy, m.Subpath = v.Volume.NoCopy, v.Volume.Subpath
			}
		case spec.MountTmpfs:
			if v.Tmpfs != nil {
				m.Size, m.Mode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
			}
		default:
			c.refuse(here, "use bind, volume or tmpfs", "mounts of the type %q are not supported", v.Type)
			continue
		}
		all = append(all, m)
	}
	for i, t := range s.Tmpfs {
		target, options, _ := strings.Cut(t, ":")
		if !path.IsAbs(target) {
			c.refuse(join(at, "tmpfs", strconv.Itoa(i)), "begin it with /", "the mount point %q is not an absolute path", target)
			continue
		}
		m := spec.Mount{Type: spec.MountTmpfs, Target: path.Clean(target)}
		if options != "" {
			m.Options = strings.Split(options, ",")
		}
		all = append(all, m)
	}
	return all
}

// shortOptions warns of the options of the short form that compose-go passes over without a word.
func (c *converter) shortOptions(here []string) {
	texts := c.tree.root.get(here...).texts()
	if len(texts) != 1 {
		return
	}
	parts := strings.Split(texts[0], ":")
	if len(parts) < 3 {
		return
	}
	for option := range strings.SplitSeq(parts[len(parts)-1], ",") {
		switch {
		case option == "ro", option == "rw", option == "nocopy", option == "z", option == "Z", slices.Contains(format.Propagations, option):
		case option == "cached", option == "delegated", option == "consistent":
			c.warn(here, "", "the option %s has no effect: it is for Docker Desktop on a Mac", option)
		default:
			c.warn(here, "take it out", "the unknown option %q has no effect", option)
		}
	}
}

func (c *converter) bind(here []string, v types.ServiceVolumeConfig, m *spec.Mount) {
	m.CreateHostPath = true // without bind options Docker makes what is missing
	if v.Bind != nil {
		m.CreateHostPath = bool(v.Bind.CreateHostPath)
		m.Propagation, m.Recursive, m.SELinux = v.Bind.Propagation, v.Bind.Recursive, v.Bind.SELinux
	}
	if m.Source == "" {
		c.refuse(here, "give it a source", "a bind mount without a path of the host")
	}
	if m.Propagation != "" && !slices.Contains(format.Propagations, m.Propagation) {
		c.refuse(here, "use one of "+strings.Join(format.Propagations, ", "), "invalid propagation %q", m.Propagation)
	}
	if m.SELinux != "" {
		c.warn(here, "", "files are not relabelled for SELinux: the option %s has no effect", m.SELinux)
	}
	if strings.HasSuffix(m.Source, "/docker.sock") {
		c.warn(here, "", "no Docker engine answers at %s: what the service wants of it will not work", m.Source)
	}
}

// mountPath finds the entry in the file that a mount came from, by its target, since merges move the entries.
func (c *converter) mountPath(at []string, v types.ServiceVolumeConfig) []string {
	where := join(at, "volumes")
	list := c.tree.root.get(where...)
	if list == nil {
		return where
	}
	for i, item := range slices.Backward(list.items) {
		target := item.field("target").texts()
		if short := item.texts(); len(short) == 1 {
			if parsed, err := format.ParseVolume(short[0]); err == nil {
				target = []string{parsed.Target}
			}
		}
		if len(target) == 1 && path.Clean(target[0]) == path.Clean(v.Target) {
			return join(where, strconv.Itoa(i))
		}
	}
	return where
}
