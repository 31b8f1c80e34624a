// Package builtin opens a voldriver.Store with the drivers that Stack brings.
package builtin

import (
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/bind"
	"github.com/stack-run/stack/voldriver/local"
	"github.com/stack-run/stack/voldriver/tmpfs"
)

// Open fills in the drivers and opens the store.
func Open(o voldriver.Options) (*voldriver.Store, error) {
	o.Drivers = map[string]voldriver.Driver{
		spec.MountVolume: local.Driver{},
		spec.MountBind:   bind.Driver{},
		spec.MountTmpfs:  tmpfs.Driver{},
	}
	o.Backends = map[string]voldriver.Backend{voldriver.DefaultBackend: local.Backend{}}
	return voldriver.Open(o)
}
