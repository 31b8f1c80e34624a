package client

import (
	"context"
	"strconv"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Revisions lists a stack's revisions, newest first.
func (c *Client) Revisions(ctx context.Context, stack string) (revisions []api.Revision, err error) {
	return revisions, c.call(ctx, "GET", stackPath(stack, "revisions"), nil, nil, &revisions)
}

// Revision is one revision in full; 0 is the newest.
func (c *Client) Revision(ctx context.Context, stack string, number int) (detail api.RevisionDetail, err error) {
	return detail, c.call(ctx, "GET", stackPath(stack, "revisions", strconv.Itoa(number)), nil, nil, &detail)
}

// Rollback is the request that goes back to a revision; 0 is the last one that converged.
func (c *Client) Rollback(ctx context.Context, stack string, number int) (req api.UpRequest, err error) {
	return req, c.call(ctx, "GET", stackPath(stack, "revisions", strconv.Itoa(number), "rollback"), nil, nil, &req)
}

// Diff compares two desired states of a stack.
func (c *Client) Diff(ctx context.Context, stack string, req api.DiffRequest) (reply api.DiffReply, err error) {
	return reply, c.call(ctx, "POST", stackPath(stack, "diff"), nil, req, &reply)
}
