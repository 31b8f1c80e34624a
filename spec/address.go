package spec

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Kind of a resource of a stack.
type Kind string

// The kinds of resources that have an address.
const (
	KindService Kind = "service"
	KindNetwork Kind = "network"
	KindVolume  Kind = "volume"
	KindImage   Kind = "image"
	KindSecret  Kind = "secret"
	KindConfig  Kind = "config"
	KindJob     Kind = "job"
)

// Address names one resource of a stack, in the same way in plans, errors, events, progress, logs and tests:
// service.web, service.web[2], network.front, volume.data, image.redis:7, secret.key, config.site.
type Address struct {
	Kind Kind
	Name string // the key in the stack file; for an image its reference
	// Replica counts from 1; 0 is the whole service, and the only value of the other kinds.
	Replica int
}

// ErrAddress is what ParseAddress's errors wrap.
var ErrAddress = errors.New("not a resource address")

// ServiceAddress is the address of a service as a whole.
func ServiceAddress(name string) Address { return Address{Kind: KindService, Name: name} }

// ReplicaAddress is the address of one container of a service; n counts from 1.
func ReplicaAddress(name string, n int) Address {
	return Address{Kind: KindService, Name: name, Replica: n}
}

// NetworkAddress is the address of a network by its key in the stack file.
func NetworkAddress(key string) Address { return Address{Kind: KindNetwork, Name: key} }

// VolumeAddress is the address of a volume by its key in the stack file.
func VolumeAddress(key string) Address { return Address{Kind: KindVolume, Name: key} }

// ImageAddress is the address of an image by its reference.
func ImageAddress(ref string) Address { return Address{Kind: KindImage, Name: ref} }

// SecretAddress is the address of a secret by its key in the stack file.
func SecretAddress(key string) Address { return Address{Kind: KindSecret, Name: key} }

// ConfigAddress is the address of a config by its key in the stack file.
func ConfigAddress(key string) Address { return Address{Kind: KindConfig, Name: key} }

// JobAddress is the address of a job by its key in the stack file.
func JobAddress(key string) Address { return Address{Kind: KindJob, Name: key} }

// String is the form that ParseAddress reads.
func (a Address) String() string {
	if a.Replica > 0 {
		return fmt.Sprintf("%s.%s[%d]", a.Kind, a.Name, a.Replica)
	}
	return string(a.Kind) + "." + a.Name
}

// MarshalText lets an address be a JSON value and a JSON map key.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// A replica number has no leading zero, so that an address has one spelling only.
var replicaSuffix = regexp.MustCompile(`^(.+)\[([1-9][0-9]*)\]$`)

// ParseAddress reads what String wrote. Errors wrap ErrAddress.
func ParseAddress(s string) (Address, error) {
	kind, name, ok := strings.Cut(s, ".")
	if !ok || name == "" {
		return Address{}, fmt.Errorf("%w: %q has no kind and name, as in service.web", ErrAddress, s)
	}
	a := Address{Kind: Kind(kind), Name: name}
	switch a.Kind {
	case KindService:
		if m := replicaSuffix.FindStringSubmatch(name); m != nil {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				return Address{}, fmt.Errorf("%w: replica number of %q: %w", ErrAddress, s, err)
			}
			a.Name, a.Replica = m[1], n
		}
	case KindNetwork, KindVolume, KindImage, KindSecret, KindConfig, KindJob:
	default:
		return Address{}, fmt.Errorf("%w: %q is not a kind of resource", ErrAddress, kind)
	}
	return a, nil
}
