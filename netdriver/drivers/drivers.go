// Package drivers wires the drivers that Stack brings into a netdriver.Manager.
package drivers

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/bridge"
	"github.com/stack-run/stack/netdriver/firewall"
	"github.com/stack-run/stack/netdriver/host"
	"github.com/stack-run/stack/netdriver/none"
)

// Open opens the networks of a daemon with the drivers bridge, host and none. It does nothing to the kernel.
func Open(opts netdriver.Options) (*netdriver.Manager, error) {
	h := sha256.Sum256([]byte(opts.Seed))
	opts.Firewall = firewall.Open(hex.EncodeToString(h[:6]))
	opts.Drivers = map[string]netdriver.Driver{
		"bridge": bridge.New(opts.Seed, opts.Firewall),
		"host":   host.Driver{},
		"none":   none.Driver{},
	}
	return netdriver.Open(opts)
}
