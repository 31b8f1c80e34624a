// Package host is the network of the host itself: containers on it have no network namespace of their own, so there is
// nothing to make.
package host

import (
	"context"
	"fmt"

	"github.com/stack-run/stack/netdriver"
)

// Driver implements netdriver.Driver.
type Driver struct{}

var _ netdriver.Driver = Driver{}

// Validate refuses addresses and options: the host's are what they are.
func (Driver) Validate(n netdriver.Network) error {
	if len(n.Subnets) > 0 || len(n.Options) > 0 || n.Internal {
		return fmt.Errorf("the host network takes no subnets, options or internal: %w", netdriver.ErrUnsupported)
	}
	return nil
}

// Create has nothing to make.
func (Driver) Create(context.Context, *netdriver.Network) error { return nil }

// Remove has nothing to remove.
func (Driver) Remove(context.Context, netdriver.Network) error { return nil }

// Observe finds nothing that could differ.
func (Driver) Observe(context.Context, netdriver.Network) ([]string, error) { return nil, nil }

// Connect refuses a sandbox: a container with a network namespace of its own can't be on the host's network.
func (Driver) Connect(_ context.Context, n netdriver.Network, sandboxes []netdriver.Sandbox) error {
	for _, s := range sandboxes {
		if s.Netns != "" {
			return fmt.Errorf("network %s: container %s has a network namespace of its own: %w", n.Name, s.ContainerID, netdriver.ErrUnsupported)
		}
	}
	return nil
}

// Disconnect has nothing to remove.
func (Driver) Disconnect(context.Context, netdriver.Network, []netdriver.Sandbox) error { return nil }
