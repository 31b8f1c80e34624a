// Package server is the daemon's end of the API: it decodes requests, calls the Backend and encodes what comes back. It
// decides nothing.
package server

import (
	"context"
	"io"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// Backend does what requests ask for. Errors that are an *api.Error travel as they are, others as api.Internal.
// An operation whose context ends is cancelled as far as that leaves nothing half-made.
type Backend interface {
	Info(context.Context) api.DaemonInfo
	RevisionBackend
	JobBackend
	StatusBackend

	Stacks(context.Context) ([]api.StackSummary, error)
	Containers(ctx context.Context, stack string) ([]api.Container, error)
	// Watch sends every container of the stack as it is, then one whenever it has changed state, until ctx ends. A removed
	// one is sent once more with the state "removed". Attached `up` and `--abort-on-container-exit` follow it.
	Watch(ctx context.Context, stack string, send func(api.Container)) error

	// Health tells of the health checks of a stack's containers: of all, or of the named services'.
	Health(ctx context.Context, stack string, services []string) ([]api.ContainerHealth, error)

	Plan(context.Context, api.UpRequest) (api.Proposal, error)
	Up(context.Context, api.UpRequest, func(api.Event)) (api.Result, error)
	// Op runs one of down, stop, start, restart, kill, rm, pause, unpause on a stack.
	Op(ctx context.Context, op, stack string, req api.OpRequest, send func(api.Event)) (api.Result, error)
	// PlanOp is what Op would do, for --dry-run.
	PlanOp(ctx context.Context, op, stack string, req api.OpRequest) (planner.Plan, error)
	Pull(context.Context, api.PullRequest, func(api.Event)) (api.Result, error)
	Run(context.Context, api.RunRequest, func(api.Event)) (api.Result, error)

	// Logs sends what was logged. With Follow it goes on with what is logged from then on, by containers that appear later
	// too, and returns when all of it is sent and none of the selected containers may print any more.
	Logs(ctx context.Context, stack string, req api.LogRequest, send func(api.LogEntry) error) error
	// Exec starts a command and returns its session.
	Exec(ctx context.Context, stack string, req api.ExecRequest) (Session, error)
	// Attach connects to a container's first process: input goes to it, output comes as it is written from now on. A
	// container that was made to be attached to (RunRequest.Attach) is started when the streams are connected.
	Attach(ctx context.Context, stack, container string, input bool) (Session, error)
	// WaitContainer returns the exit code when the container has exited.
	WaitContainer(ctx context.Context, stack, container string) (int, error)
	Signal(ctx context.Context, stack, container, signal string) error
	RemoveContainer(ctx context.Context, stack, container string, force, volumes bool) error

	// Place makes files in the running containers of a service equal to files below the root folder from.
	Place(ctx context.Context, stack string, req api.PlaceRequest, from string) (api.PlaceResult, error)

	Images(context.Context) ([]api.Image, error)
	Image(ctx context.Context, ref string) (any, error) // everything known, for inspect
	PullImage(ctx context.Context, ref, platform string, send func(api.Event)) (api.Result, error)
	LoadImage(ctx context.Context, r io.Reader, name string, send func(api.Event)) ([]string, error)
	RemoveImage(ctx context.Context, ref string, force bool) ([]string, error)

	Volumes(context.Context) ([]api.Volume, error)
	RemoveVolume(ctx context.Context, name string) error
	PruneVolumes(ctx context.Context, all bool) ([]string, error) // anonymous ones, or with all every unused one
	Networks(context.Context) ([]api.Network, error)
	RemoveNetwork(ctx context.Context, name string) error
	PruneNetworks(ctx context.Context) ([]string, error)

	// Shutdown ends the daemon; containers go on.
	Shutdown(context.Context) error
}

// Session is a running command with its streams.
type Session interface {
	Stdin() io.WriteCloser // nil without input
	Stdout() io.Reader
	Stderr() io.Reader // nil with a terminal
	Resize(rows, cols uint16) error
	Wait(context.Context) (exitCode int, err error)
	Close() error
}
