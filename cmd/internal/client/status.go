package client

import (
	"context"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Status compares a stack with what it is to be.
func (c *Client) Status(ctx context.Context, stack string) (status api.StackStatus, err error) {
	return status, c.call(ctx, "GET", stackPath(stack, "status"), nil, nil, &status)
}

// WatchStatus calls on with the status, and whenever it changes, until ctx ends or on returns an error.
func (c *Client) WatchStatus(ctx context.Context, stack string, on func(api.StackStatus) error) error {
	return stream(ctx, c, "GET", stackPath(stack, "status", "watch"), nil, on)
}

// Suspend has drift of a stack reported only; Resume has it repaired again.
func (c *Client) Suspend(ctx context.Context, stack string) error {
	return c.call(ctx, "POST", stackPath(stack, "suspend"), nil, nil, nil)
}

// Resume takes Suspend back.
func (c *Client) Resume(ctx context.Context, stack string) error {
	return c.call(ctx, "POST", stackPath(stack, "resume"), nil, nil, nil)
}
