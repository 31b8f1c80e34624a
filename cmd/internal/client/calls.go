package client

import (
	"context"
	"encoding/json"
	"io"
	"net/url"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// Info tells the daemon's version and places.
func (c *Client) Info(ctx context.Context) (info api.DaemonInfo, err error) {
	return info, c.call(ctx, "GET", "/version", nil, nil, &info)
}

// Shutdown ends the daemon; containers go on.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.call(ctx, "POST", "/shutdown", nil, nil, nil)
}

// Stacks lists the stacks of the daemon.
func (c *Client) Stacks(ctx context.Context) (stacks []api.StackSummary, err error) {
	return stacks, c.call(ctx, "GET", "/stacks", nil, nil, &stacks)
}

// Containers lists a stack's containers, one-off and stopped ones included.
func (c *Client) Containers(ctx context.Context, stack string) (containers []api.Container, err error) {
	return containers, c.call(ctx, "GET", stackPath(stack, "containers"), nil, nil, &containers)
}

// Health tells of the health checks of a stack's containers: of all, or of the named services'.
func (c *Client) Health(ctx context.Context, stack string, services []string) (health []api.ContainerHealth, err error) {
	return health, c.call(ctx, "GET", stackPath(stack, "health"), url.Values{"service": services}, nil, &health)
}

// Plan is what Up would do.
func (c *Client) Plan(ctx context.Context, req api.UpRequest) (plan api.Proposal, err error) {
	return plan, c.call(ctx, "POST", "/plan", nil, req, &plan)
}

// Up converges a stack.
func (c *Client) Up(ctx context.Context, req api.UpRequest, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, "/up", nil, req, on)
}

// Op runs down, stop, start, restart, kill, rm, pause or unpause on a stack.
func (c *Client) Op(ctx context.Context, op, stack string, req api.OpRequest, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, stackPath(stack, "ops", op), nil, req, on)
}

// PlanOp is what Op would do.
func (c *Client) PlanOp(ctx context.Context, op, stack string, req api.OpRequest) (plan planner.Plan, err error) {
	return plan, c.call(ctx, "POST", stackPath(stack, "ops", op, "plan"), nil, req, &plan)
}

// Pull pulls the images of services.
func (c *Client) Pull(ctx context.Context, req api.PullRequest, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, "/pull", nil, req, on)
}

// Run makes a one-off container.
func (c *Client) Run(ctx context.Context, req api.RunRequest, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, "/run", nil, req, on)
}

// Watch calls on for each change of a container's state until ctx ends or on returns an error.
func (c *Client) Watch(ctx context.Context, stack string, on func(api.Container) error) error {
	return stream(ctx, c, "GET", stackPath(stack, "watch"), nil, on)
}

// Logs calls on for each log entry, until there is none left, ctx ends or on returns an error.
func (c *Client) Logs(ctx context.Context, stack string, req api.LogRequest, on func(api.LogEntry) error) error {
	return stream(ctx, c, "POST", stackPath(stack, "logs"), req, on)
}

// Exec starts a command in a container.
func (c *Client) Exec(ctx context.Context, stack string, req api.ExecRequest) (*Session, error) {
	return c.session(ctx, stackPath(stack, "exec"), nil, req)
}

// ExecDetached starts a command in a container and leaves it to itself.
func (c *Client) ExecDetached(ctx context.Context, stack string, req api.ExecRequest) error {
	req.Detach = true
	return c.call(ctx, "POST", stackPath(stack, "exec"), nil, req, nil)
}

// Attach connects to a container's first process.
func (c *Client) Attach(ctx context.Context, stack, container string, input bool) (*Session, error) {
	return c.session(ctx, stackPath(stack, "containers", container, "attach"), yes(input, "input"), nil)
}

// WaitContainer returns a container's exit code when it has exited.
func (c *Client) WaitContainer(ctx context.Context, stack, container string) (int, error) {
	var exit api.SessionExit
	err := c.call(ctx, "POST", stackPath(stack, "containers", container, "wait"), nil, nil, &exit)
	return exit.Code, err
}

// Signal sends a signal to a container's first process.
func (c *Client) Signal(ctx context.Context, stack, container, signal string) error {
	return c.call(ctx, "POST", stackPath(stack, "containers", container, "signal"), url.Values{"signal": {signal}}, nil, nil)
}

// RemoveContainer removes one container.
func (c *Client) RemoveContainer(ctx context.Context, stack, container string, force, volumes bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	if volumes {
		q.Set("volumes", "true")
	}
	return c.call(ctx, "DELETE", stackPath(stack, "containers", container), q, nil, nil)
}

// Place makes files in the running containers of a service equal to this host's.
func (c *Client) Place(ctx context.Context, stack string, req api.PlaceRequest) (result api.PlaceResult, err error) {
	return result, c.call(ctx, "POST", stackPath(stack, "place"), nil, req, &result)
}

// Images lists the store.
func (c *Client) Images(ctx context.Context) (images []api.Image, err error) {
	return images, c.call(ctx, "GET", "/images", nil, nil, &images)
}

// Image is everything known about an image, as JSON.
func (c *Client) Image(ctx context.Context, ref string) (image json.RawMessage, err error) {
	return image, c.call(ctx, "GET", "/images/inspect", url.Values{"ref": {ref}}, nil, &image)
}

// PullImage pulls one image; an empty platform is the host's.
func (c *Client) PullImage(ctx context.Context, ref, platform string, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, "/images/pull", url.Values{"ref": {ref}, "platform": {platform}}, nil, on)
}

// LoadImage sends an archive; name is for archives that name nothing.
func (c *Client) LoadImage(ctx context.Context, archive io.Reader, name string, on func(api.Event)) (api.Result, error) {
	return c.operation(ctx, "/images/load", url.Values{"name": {name}}, archive, on)
}

// RemoveImage removes an image's name, and what only that name held; it returns what went.
func (c *Client) RemoveImage(ctx context.Context, ref string, force bool) (removed []string, err error) {
	q := url.Values{"ref": {ref}}
	if force {
		q.Set("force", "true")
	}
	return removed, c.call(ctx, "DELETE", "/images", q, nil, &removed)
}

// Volumes lists all volumes.
func (c *Client) Volumes(ctx context.Context) (volumes []api.Volume, err error) {
	return volumes, c.call(ctx, "GET", "/volumes", nil, nil, &volumes)
}

// RemoveVolume deletes a volume and its data.
func (c *Client) RemoveVolume(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/volumes/"+url.PathEscape(name), nil, nil, nil)
}

// PruneVolumes deletes unused anonymous volumes, or with all every unused one, and returns their names.
func (c *Client) PruneVolumes(ctx context.Context, all bool) (removed []string, err error) {
	return removed, c.call(ctx, "POST", "/volumes/prune", yes(all, "all"), nil, &removed)
}

// Networks lists all networks.
func (c *Client) Networks(ctx context.Context) (networks []api.Network, err error) {
	return networks, c.call(ctx, "GET", "/networks", nil, nil, &networks)
}

// RemoveNetwork removes a network.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/networks/"+url.PathEscape(name), nil, nil, nil)
}

// PruneNetworks removes unused networks and returns their names.
func (c *Client) PruneNetworks(ctx context.Context) (removed []string, err error) {
	return removed, c.call(ctx, "POST", "/networks/prune", nil, nil, &removed)
}

func stackPath(stack string, parts ...string) string {
	path := "/stacks/" + url.PathEscape(stack)
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}
