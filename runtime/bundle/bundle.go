// Package bundle turns a service of the desired state and an image's configuration into what an OCI runtime starts: a
// runtime-spec configuration (config.json) and the container's own files (hosts, hostname, resolv.conf, secrets, configs).
//
// Make decides and touches nothing; Bundle.Write puts the result on the disk. Both are repeatable: the same Input gives the
// same Bundle, and writing it again replaces what is there.
//
// The defaults (capabilities, seccomp, masked paths, mounts) are Docker's, because stack files are written against them.
package bundle

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// What is wrong with an attribute; every error of Make that a stack file is to blame for wraps one of these in an
// AttributeError.
var (
	ErrInvalid     = errors.New("invalid")
	ErrUnsupported = errors.New("not supported on this host")
)

// AttributeError names the attribute of the service that can't be honoured: "user", "ulimits.nofile".
type AttributeError struct {
	Attribute string
	Err       error
}

func (e *AttributeError) Error() string { return e.Attribute + ": " + e.Err.Error() }
func (e *AttributeError) Unwrap() error { return e.Err }

// invalid says that the file is wrong, unsupported that this host can't.
func invalid(attribute, format string, args ...any) error {
	return &AttributeError{attribute, fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))}
}

func unsupported(attribute, format string, args ...any) error {
	return &AttributeError{attribute, fmt.Errorf("%w: %w", ErrUnsupported, fmt.Errorf(format, args...))}
}

// Input is everything that decides how a container looks.
type Input struct {
	Service *spec.Service
	Image   ocispec.ImageConfig

	ID         string // 64 hex digits
	Name       string // container name
	Stack      string
	Replica    int
	WorkingDir string // of the stack; a relative seccomp profile path starts here
	Dir        string // absolute; the container's record folder, which is also the bundle. The root filesystem is Dir/rootfs

	Mounts  []voldriver.Mount // resolved volumes, binds and tmpfs
	Network Network

	// PIDPath and IPCPath are the namespaces of another container, for `pid:` and `ipc:` with service: or container:.
	PIDPath, IPCPath string
	// ShmPath is the host folder behind /dev/shm where it is shared (`ipc: shareable`, service:, container:), see
	// voldriver.Store.SharedMemory. The kernel refuses to mount it out of another container (/proc/<pid>/root/dev/shm).
	ShmPath string
	// CgroupPath of the container. A service's cgroup_parent replaces it by /<cgroup_parent>/<ID>.
	CgroupPath string

	Secrets, Configs []File
	// SecretEnv are variables whose values may be on no disk.
	SecretEnv map[string]string
	// SecretsDir is this container's own folder on a tmpfs. Write makes it (0700) and fills it; the caller removes it.
	SecretsDir string

	// UIDs and GIDs of the container's user namespace; empty shares the host's. With Network.Userns, which already has
	// them, they only decide who owns the container's files.
	UIDs, GIDs []specs.LinuxIDMapping

	Host Host
	// ReadFile reads /etc/passwd and /etc/group of the image. fs.ErrNotExist is no error. Nil: the image has neither.
	ReadFile func(path string) ([]byte, error)
}

// File is a secret or config with its content.
type File struct {
	Name    string // for messages
	Target  string // absolute path in the container
	Content []byte
	Mode    uint32 // permission bits; 0 is 0444
	UID     string // numbers in the container; empty is 0
	GID     string
}

// Bundle is a container ready to be written and started.
type Bundle struct {
	Dir        string
	Spec       *specs.Spec
	Files      []HostFile
	StopSignal syscall.Signal
	// Warnings say what was asked for and is not possible here, where going on without it does no harm.
	Warnings []string

	secretsDir string
	sealed     bool // the configuration itself is a secret
}

// ociVersion is one that older runtime programs take as well: crun up to 1.8 refuses 1.1 and above.
const ociVersion = "1.0.2"

// Make decides how the container looks. All that is wrong is reported in one error, see AttributeError.
func Make(in Input) (*Bundle, error) {
	b := &builder{
		Input:  in,
		bundle: &Bundle{Dir: in.Dir, secretsDir: in.SecretsDir, sealed: len(in.SecretEnv) > 0},
		spec: &specs.Spec{
			Version:     ociVersion,
			Root:        &specs.Root{Path: filepath.Join(in.Dir, "rootfs"), Readonly: in.Service.ReadOnly},
			Annotations: in.Service.Annotations,
			Process:     &specs.Process{},
			Linux:       &specs.Linux{CgroupsPath: in.cgroupPath()},
		},
	}
	b.bundle.Spec = b.spec
	security, err := parseSecurityOpts(in.Service.SecurityOpt)
	b.security = security
	if err = errors.Join(err,
		b.command(),
		b.identity(),
		b.capabilities(),
		b.limits(),
		b.namespaces(),
		b.resources(),
		b.devices(),
		b.ownFiles(),
		b.mounts(),
		b.stopSignal(),
	); err != nil {
		return nil, err
	}
	if err := b.confine(); err != nil { // the seccomp rules depend on the capabilities
		return nil, err
	}
	return b.bundle, nil
}

// builder carries one Make. Each method fills in its part of the spec.
type builder struct {
	Input
	spec     *specs.Spec
	bundle   *Bundle
	security security

	fileMounts   []specs.Mount // the container's own files; a mount of the stack file goes before them
	secretMounts []specs.Mount
}

func (b *builder) warn(format string, args ...any) {
	b.bundle.Warnings = append(b.bundle.Warnings, fmt.Sprintf(format, args...))
}

// userns tells whether the container has a user namespace of its own.
func (in *Input) userns() bool { return len(in.UIDs) > 0 || in.Network.Userns != "" }

func (in *Input) cgroupPath() string {
	if parent := in.Service.CgroupParent; parent != "" {
		return path.Join("/", parent, in.ID)
	}
	return in.CgroupPath
}

func (b *builder) stopSignal() (err error) {
	b.bundle.StopSignal, err = StopSignal(b.Service, b.Image)
	return err
}

// shortID is the first 12 digits of a container's ID, its host name unless the file gives one.
func shortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// Hostname is the container's host name.
func Hostname(s *spec.Service, id string) string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return shortID(id)
}

// Mode is whose network a container is on.
type Mode string

const (
	Private Mode = "private" // a network namespace of its own, connected to networks
	HostNet Mode = "host"
	None    Mode = "none"   // a network namespace with nothing but loopback
	Shared  Mode = "shared" // another container's: network_mode service: or container:
)

// Network is what the container sees of its network.
type Network struct {
	Mode Mode
	// Netns and Userns are paths of namespaces to join. With an empty Netns the runtime makes a new one.
	Netns, Userns string
	// Hosts are lines of /etc/hosts: the container's own addresses and names, and links. The service's extra_hosts
	// are added by Make.
	Hosts []HostEntry
	// HostGateway are the addresses that `host-gateway` in extra_hosts stands for.
	HostGateway []netip.Addr
	// HostsBase is the host's /etc/hosts, which a container on the host's network starts from.
	HostsBase []byte
	Resolv    Resolv
	// FilesFrom is the bundle folder of the container whose network is shared; its hosts, hostname and resolv.conf are
	// this container's as well.
	FilesFrom string
}

// HostEntry is one line of /etc/hosts.
type HostEntry struct {
	Addr  netip.Addr
	Names []string
}

// namespaceOf tells whether a pid, ipc or similar mode means another container's namespace.
func namespaceOf(mode string) bool {
	return strings.HasPrefix(mode, "service:") || strings.HasPrefix(mode, "container:")
}
