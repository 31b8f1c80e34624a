package bundle

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
)

// namespaces sets what the container has of its own, joins or shares with the host, its names, and its kernel parameters.
func (b *builder) namespaces() error {
	s, n := b.Service, b.Network
	b.namespace(specs.MountNamespace, "")
	if b.userns() {
		b.namespace(specs.UserNamespace, n.Userns)
		if n.Userns == "" {
			b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = b.UIDs, b.GIDs
		}
	}
	if n.Mode != HostNet {
		b.namespace(specs.NetworkNamespace, n.Netns)
	}
	if n.Mode == Shared && n.Netns == "" {
		return errors.New("the path of the shared network namespace is missing")
	}
	return errors.Join(b.pid(), b.ipc(), b.uts(s), b.cgroupns(), b.sysctls())
}

func (b *builder) namespace(kind specs.LinuxNamespaceType, path string) {
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

func (b *builder) pid() error {
	switch mode := b.Service.PID; {
	case mode == "host":
		if b.userns() {
			return invalid("pid", "the host's processes can't be shared with a user namespace")
		}
	case mode == "" || mode == "private":
		b.namespace(specs.PIDNamespace, "")
	case namespaceOf(mode):
		if b.PIDPath == "" {
			return errors.New("the path of the shared pid namespace is missing")
		}
		b.namespace(specs.PIDNamespace, b.PIDPath)
	default:
		return invalid("pid", "%q is not host, service:<name> or container:<name>", mode)
	}
	return nil
}

func (b *builder) ipc() error {
	switch mode := b.Service.IPC; {
	case mode == "host":
		if b.userns() {
			return invalid("ipc", "the host's shared memory can't be shared with a user namespace")
		}
	case mode == "" || mode == "private" || mode == "none" || mode == "shareable":
		b.namespace(specs.IPCNamespace, "")
	case namespaceOf(mode):
		if b.IPCPath == "" {
			return errors.New("the path of the shared ipc namespace is missing")
		}
		if b.ShmPath == "" {
			return errors.New("the folder of the shared memory is missing")
		}
		b.namespace(specs.IPCNamespace, b.IPCPath)
	default:
		return invalid("ipc", "%q is not host, private, shareable, none, service:<name> or container:<name>", mode)
	}
	return nil
}

// uts sets the host name. A container on the host's network has the host's name, but in a namespace of its own: changing it
// does not change the host's.
func (b *builder) uts(s *spec.Service) error {
	switch s.UTS {
	case "host":
		if s.Hostname != "" || s.Domainname != "" {
			return invalid("uts", "with uts: host the container has the host's name; remove hostname and domainname")
		}
		return nil
	case "", "private":
	default:
		return invalid("uts", "%q is not host", s.UTS)
	}
	b.namespace(specs.UTSNamespace, "")
	b.spec.Hostname, b.spec.Domainname = b.hostname(), s.Domainname
	return nil
}

func (b *builder) hostname() string {
	if b.Network.Mode == HostNet && b.Service.Hostname == "" && b.Host.Hostname != "" {
		return b.Host.Hostname
	}
	return Hostname(b.Service, b.ID)
}

func (b *builder) cgroupns() error {
	switch mode := b.Service.Cgroup; mode {
	case "host":
	case "private":
		b.namespace(specs.CgroupNamespace, "")
	case "":
		if b.Host.CgroupV2 { // as Docker: on v1 programs expect to see the host's tree
			b.namespace(specs.CgroupNamespace, "")
		}
	default:
		return invalid("cgroup", "%q is not host or private", mode)
	}
	return nil
}

// ipcSysctls belong to the IPC namespace, like everything below fs.mqueue.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	"kernel.shm_rmid_forced",
}

// sysctls sets the kernel parameters that the runtime has to set. Those of a network namespace that exists before the
// container are the sandbox's, see SandboxSysctls.
func (b *builder) sysctls() error {
	if err := checkSysctls(b.Service, b.Network.Mode); err != nil {
		return err
	}
	out := map[string]string{}
	sandboxed := b.Network.Netns != "" && b.Network.Mode != Shared
	for name, value := range b.Service.Sysctls {
		name = dotted(name)
		if sandboxed && strings.HasPrefix(name, "net.") {
			continue
		}
		out[name] = value
	}
	if b.Network.Netns == "" {
		net, err := SandboxSysctls(b.Service, b.Network.Mode)
		if err != nil {
			return err
		}
		maps.Copy(out, net)
		if _, asked := b.Service.Sysctls[pingGroups]; b.userns() && !asked { // the runtime sets it from inside, where only the container's groups have names
			delete(out, pingGroups)
		}
	}
	if len(out) > 0 {
		b.spec.Linux.Sysctl = out
	}
	return nil
}

const pingGroups = "net.ipv4.ping_group_range"

// SandboxSysctls are the kernel parameters (net.*) of the container's own network namespace, for whoever makes it. Like
// Docker's they let any user of the container bind ports below 1024 and send ICMP echoes. Nil where the namespace is
// not the container's own.
func SandboxSysctls(s *spec.Service, mode Mode) (map[string]string, error) {
	if err := checkSysctls(s, mode); err != nil {
		return nil, err
	}
	if mode == HostNet || mode == Shared {
		return nil, nil
	}
	out := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", pingGroups: "0 2147483647"}
	for name, value := range s.Sysctls {
		if name = dotted(name); strings.HasPrefix(name, "net.") {
			out[name] = value
		}
	}
	return out, nil
}

// checkSysctls refuses parameters that would change the host.
func checkSysctls(s *spec.Service, mode Mode) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s.Sysctls)) {
		name, attribute := dotted(key), "sysctls."+key
		switch {
		case strings.HasPrefix(name, "net."):
			if mode == HostNet {
				errs = append(errs, invalid(attribute, "with network_mode: host this would change the host's network"))
			}
		case slices.Contains(ipcSysctls, name) || strings.HasPrefix(name, "fs.mqueue."):
			if s.IPC == "host" {
				errs = append(errs, invalid(attribute, "with ipc: host this would change the host"))
			}
		case name == "kernel.domainname":
			if s.UTS == "host" {
				errs = append(errs, invalid(attribute, "with uts: host this would change the host"))
			}
		case name == "kernel.hostname":
			errs = append(errs, invalid(attribute, "set hostname instead"))
		default:
			errs = append(errs, invalid(attribute, "this is a parameter of the whole host; set it there, in /etc/sysctl.d"))
		}
	}
	return errors.Join(errs...)
}

// dotted turns the slash form of a parameter (net/ipv4/conf/eth0.1/forwarding) into the dotted one
// (net.ipv4.conf.eth0/1.forwarding): the separator is whichever comes first.
func dotted(name string) string {
	i := strings.IndexAny(name, "./")
	if i < 0 || name[i] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
