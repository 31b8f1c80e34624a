// Package none is the network of containers that have none: only the loopback link, which netdriver.Manager brings up in
// every sandbox.
package none

import (
	"context"
	"fmt"

	"github.com/stack-run/stack/netdriver"
)

// Driver implements netdriver.Driver.
type Driver struct{}

var _ netdriver.Driver = Driver{}

// Validate refuses addresses and options: there is nothing to give them to.
func (Driver) Validate(n netdriver.Network) error {
	if len(n.Subnets) > 0 || len(n.Options) > 0 {
		return fmt.Errorf("the network driver none takes no subnets or options: %w", netdriver.ErrUnsupported)
	}
	return nil
}

// Create has nothing to make.
func (Driver) Create(context.Context, *netdriver.Network) error { return nil }

// Remove has nothing to remove.
func (Driver) Remove(context.Context, netdriver.Network) error { return nil }

// Observe finds nothing that could differ.
func (Driver) Observe(context.Context, netdriver.Network) ([]string, error) { return nil, nil }

// Connect has nothing to add to the loopback link.
func (Driver) Connect(context.Context, netdriver.Network, []netdriver.Sandbox) error { return nil }

// Disconnect has nothing to remove.
func (Driver) Disconnect(context.Context, netdriver.Network, []netdriver.Sandbox) error { return nil }
