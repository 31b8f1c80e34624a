package bundle

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/voldriver"
)

const defaultShmSize = 64 << 20 // bytes

// mounts lists the file systems every container has, then, parents before children, the volumes, binds and tmpfs of the file
// and the container's own files. A mount of the file replaces a default one at the same place.
func (b *builder) mounts() error {
	user := map[string]bool{}
	var own []specs.Mount
	var errs []error
	for i, m := range b.Mounts {
		om, err := userMount(m)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("volumes[%d]: %w", i, err))
			continue
		case user[om.Destination]:
			errs = append(errs, invalid("volumes", "two mounts at %s", om.Destination))
			continue
		}
		user[om.Destination] = true
		if m.Volume != "" && b.userns() {
			// Volumes are filled with the owners the image has, which are those inside of the user namespace.
			om.Options = append(slices.Clone(om.Options), "idmap")
		}
		own = append(own, om)
		b.propagate(om.Options)
	}
	for _, m := range b.fileMounts {
		if !user[m.Destination] {
			own = append(own, m)
		}
	}
	for _, m := range b.secretMounts {
		if user[m.Destination] {
			errs = append(errs, invalid("secrets", "two mounts at %s", m.Destination))
		}
		user[m.Destination] = true
		own = append(own, m)
	}
	slices.SortStableFunc(own, func(x, y specs.Mount) int { return depth(x.Destination) - depth(y.Destination) })
	for _, m := range b.defaultMounts() {
		covered := user["/dev"] && strings.HasPrefix(m.Destination, "/dev/")
		if !user[m.Destination] && !covered {
			b.spec.Mounts = append(b.spec.Mounts, m)
		}
	}
	b.spec.Mounts = append(b.spec.Mounts, own...)
	return errors.Join(errs...)
}

func userMount(m voldriver.Mount) (specs.Mount, error) {
	if !path.IsAbs(m.Destination) {
		return specs.Mount{}, invalid("volumes", "%q is not an absolute path", m.Destination)
	}
	destination := path.Clean(m.Destination)
	if destination == "/" {
		return specs.Mount{}, invalid("volumes", "the root of the container can't be a mount")
	}
	return specs.Mount{Type: m.Type, Source: m.Source, Destination: destination, Options: m.Options}, nil
}

// propagate lets mounts pass between host and container where a bind asks for it: the container's root must not be private.
func (b *builder) propagate(options []string) {
	root := &b.spec.Linux.RootfsPropagation
	for _, o := range options {
		switch o {
		case "shared", "rshared":
			*root = "shared"
		case "slave", "rslave":
			if *root == "" {
				*root = "rslave"
			}
		}
	}
}

func (b *builder) defaultMounts() []specs.Mount {
	tight := []string{"nosuid", "noexec", "nodev"}
	readOnly := slices.Concat(tight, []string{"ro"})
	sys, cgroup := readOnly, readOnly
	if b.Service.Privileged {
		sys, cgroup = tight, tight
	} else if b.security.writableCgroups {
		cgroup = tight
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: tight},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
	if b.userns() && b.Network.Mode == HostNet {
		// sysfs shows the network; only its owner may mount it anew.
		mounts[3] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: slices.Concat([]string{"rbind"}, sys)}
	}
	return slices.Concat(mounts, b.ipcMounts(tight))
}

// ipcMounts are message queues and shared memory, which belong to the IPC namespace.
func (b *builder) ipcMounts(tight []string) []specs.Mount {
	bind := slices.Concat([]string{"rbind"}, tight)
	queue := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: tight}
	shm := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: b.ShmPath, Options: bind}
	switch {
	case b.Service.IPC == "none":
		return []specs.Mount{queue}
	case b.Service.IPC == "host":
		queue.Type, queue.Source, queue.Options = "bind", "/dev/mqueue", bind
		shm.Source = "/dev/shm"
	case b.ShmPath == "":
		size := b.Service.ShmSize
		if size <= 0 {
			size = defaultShmSize
		}
		shm.Type, shm.Source = "tmpfs", "shm"
		shm.Options = slices.Concat(tight, []string{"mode=1777", fmt.Sprintf("size=%d", size)})
	}
	return []specs.Mount{queue, shm}
}

func depth(destination string) int { return strings.Count(destination, "/") }
