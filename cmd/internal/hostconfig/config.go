// Package hostconfig reads the host's configuration: how registries are reached, which runtime and snapshotter are used,
// where addresses come from and how logs rotate.
package hostconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"
)

// Defaults of the places that flags and environment variables change.
const (
	DefaultFile   = "/etc/stack/config.yaml"
	DefaultRoot   = "/var/lib/stack"
	DefaultRunDir = "/run/stack"
)

// Config is the host's configuration. Empty fields mean the daemon's defaults.
type Config struct {
	Registries   map[string]Registry // by the registry named in image references: docker.io
	Snapshotter  string              // overlay, native, btrfs, devmapper, zfs
	Runtime      string              // embedded, or a name of Runtimes
	Runtimes     map[string]Runtime
	AddressPools []AddressPool
	Logs         Logs
}

// Registry is how one registry is reached.
type Registry struct {
	Mirrors   []string // URLs, tried in order before the registry itself
	PlainHTTP bool     // loopback registries may be plain HTTP without saying so
}

// Runtime is an OCI runtime program.
type Runtime struct {
	Path string // absolute
	Args []string
}

// AddressPool is a range that networks get their subnets from.
type AddressPool struct {
	Base netip.Prefix
	Size int // prefix length of each subnet
}

// Logs is how containers' logs rotate where the stack file does not say.
type Logs struct {
	MaxSize  int64 // bytes, 0: no rotation
	MaxFiles int
	Retain   time.Duration // of the logs of replaced containers
}

// DefaultLogs hold where the configuration says nothing.
var DefaultLogs = Logs{MaxSize: 50 << 20, MaxFiles: 5, Retain: 7 * 24 * time.Hour}

// Default is the configuration of a host without a file.
func Default() Config { return Config{Logs: DefaultLogs} }

// Path is the configuration file that applies: STACK_CONFIG, or DefaultFile.
func Path() string {
	if path := os.Getenv("STACK_CONFIG"); path != "" {
		return path
	}
	return DefaultFile
}

// Load reads a configuration file; the default one may be absent. Errors about its content are spec.Diagnostics.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultFile {
		return Default(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("host configuration: %w", err)
	}
	return Parse(path, text)
}
