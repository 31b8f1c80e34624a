package daemon

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

func (b *backend) container(ctx context.Context, s reconciler.Status) api.Container {
	c := api.Container{
		ID: s.ID, Name: s.Name, Stack: s.Stack, Service: s.Service, Replica: s.Replica, Address: s.Address(), OneOff: s.OneOff,
		Image: s.Image, ImageID: s.ImageID, Created: s.Created,
		Started: s.View.State.Started, Finished: s.View.State.Finished, State: s.State, Health: s.Health,
		ExitCode: s.View.State.ExitCode, OOM: s.View.State.OOM, Error: s.View.State.Error, PID: s.View.State.PID,
		Restarts: s.Restarts, Ailing: s.Ailing, NextTry: s.NextTry, Labels: s.Labels, TTY: s.Spec.TTY,
		Networks: map[string]api.NetworkAddress{},
	}
	if s.InitOf != nil {
		c.Hook = spec.PreStart
	}
	if s.State != planner.Running && s.State != planner.Paused {
		c.PID, c.Health = 0, ""
	}
	if p := s.Probe; p != nil && c.Health != "" {
		probe := healthProbe(*p)
		c.HealthLog = &probe
	}
	c.Command = b.command(ctx, s)
	for _, ep := range s.Endpoints {
		c.Networks[ep.Network] = address(ep)
		if s.Connected != "" {
			c.Ports = append(c.Ports, published(ep)...)
		}
	}
	if len(c.Networks) == 0 && s.NetMode == runtime.NetHost {
		c.Networks["host"] = api.NetworkAddress{}
	}
	c.Ports = append(c.Ports, b.exposed(ctx, s, c.Ports)...)
	for _, m := range s.Mounts {
		if name := m.Volume; name != "" {
			c.Mounts = append(c.Mounts, name)
		} else if m.Type == "bind" {
			c.Mounts = append(c.Mounts, m.Source)
		}
	}
	return c
}

// command is what the container runs, as one line.
func (b *backend) command(ctx context.Context, s reconciler.Status) string {
	var args []string
	if img, err := b.engine.Image(ctx, s.ImageID); err == nil {
		args = append(slices.Clone(img.Config.Entrypoint), img.Config.Cmd...)
		if s.Spec.Entrypoint != nil {
			args = nil
		} else if s.Spec.Command != nil {
			args = slices.Clone(img.Config.Entrypoint)
		}
	}
	if s.Spec.Entrypoint != nil {
		args = append(args, *s.Spec.Entrypoint...)
	}
	if s.Spec.Command != nil {
		args = append(args, *s.Spec.Command...)
	}
	return strings.Join(args, " ")
}

// published are a connected endpoint's ports; a port of all addresses is one line for IPv4 and one for IPv6.
func published(ep netdriver.Endpoint) []api.PublishedPort {
	var out []api.PublishedPort
	for _, p := range ep.Ports {
		hosts := []string{p.HostIP.String()}
		if !p.HostIP.IsValid() {
			hosts = []string{"0.0.0.0", "::"}
		}
		for _, host := range hosts {
			out = append(out, api.PublishedPort{HostIP: host, Published: int(p.HostPort), Target: int(p.Target), Protocol: p.Protocol})
		}
	}
	return out
}

// exposed are the ports that the image and `expose:` name and that are not published.
func (b *backend) exposed(ctx context.Context, s reconciler.Status, have []api.PublishedPort) []api.PublishedPort {
	names := slices.Clone(s.Spec.Expose)
	if img, err := b.engine.Image(ctx, s.ImageID); err == nil {
		names = append(names, slices.Sorted(maps.Keys(img.Config.ExposedPorts))...)
	}
	var out []api.PublishedPort
	for _, name := range names {
		number, protocol, found := strings.Cut(name, "/")
		if !found {
			protocol = "tcp"
		}
		target, err := strconv.Atoi(number)
		if err != nil {
			continue // a range: nothing is published by it
		}
		same := func(p api.PublishedPort) bool { return p.Target == target && p.Protocol == protocol }
		if !slices.ContainsFunc(have, same) && !slices.ContainsFunc(out, same) {
			out = append(out, api.PublishedPort{Target: target, Protocol: protocol})
		}
	}
	return out
}

func address(ep netdriver.Endpoint) api.NetworkAddress {
	a := api.NetworkAddress{MAC: ep.MAC, Aliases: ep.Names}
	for _, f := range []struct {
		from netip.Prefix
		to   *string
	}{{ep.IPv4, &a.IPv4}, {ep.IPv6, &a.IPv6}} {
		if f.from.IsValid() {
			*f.to = f.from.Addr().String()
		}
	}
	return a
}

// event turns what the reconciler tells into what travels. A failed container's last log lines come along.
func (b *backend) event(ctx context.Context, e reconciler.Event) api.Event {
	out := api.Event{
		Kind: e.Kind, Time: e.Time, Address: e.Action.Address, Name: e.Action.Name, Action: string(e.Action.Kind),
		Reason: string(e.Action.Reason), Text: e.Text, ID: e.Action.ID,
	}
	if e.Address != "" {
		out.Address = e.Address
	}
	if e.Kind == "progress" {
		out.Layer, out.Phase, out.Done, out.Total, out.Text = e.Progress.Layer, e.Progress.Phase, e.Progress.Done, e.Progress.Total, e.Progress.Detail
	}
	if e.Err != nil {
		out.Error = b.failure(ctx, e.Err)
	}
	return out
}

// failure classifies an error by type and gives it what helps: the address, the remedy, the exit code, the last log lines.
func (b *backend) failure(ctx context.Context, err error) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	if many := several(err); len(many) > 0 {
		return b.failures(ctx, many)
	}
	out := &api.Error{Code: code(err), Message: err.Error()}
	var action *reconciler.ActionError
	if errors.As(err, &action) {
		out.Address, out.Message = action.Action.Address, action.Err.Error()
	}
	var fault *reconciler.AddressError
	if errors.As(err, &fault) {
		out.Address, out.Message = fault.Address, located(fault.Position, fault.Err.Error())
	}
	var problem planner.Problem
	if errors.As(err, &problem) {
		out.Address, out.Message, out.Remedy = problem.Address, located(problem.Position, problem.Summary), problem.Remedy
	}
	var img *image.Error
	if errors.As(err, &img) && img.Remedy != "" && strings.HasSuffix(out.Message, "; "+img.Remedy) {
		out.Message, out.Remedy = strings.TrimSuffix(out.Message, "; "+img.Remedy), img.Remedy
	}
	if out.Remedy == "" {
		out.Remedy = remedy(err)
	}
	var ended *reconciler.ContainerError
	if errors.As(err, &ended) {
		if out.Code != api.Timeout {
			out.Code = api.Failed
		}
		if out.Logs = ended.Logs; out.Logs == nil {
			out.Logs = b.lastLines(context.WithoutCancel(ctx), ended.Container.ID)
		}
		switch {
		case errors.Is(err, shim.ErrNoCommand):
			out.ExitCode = 127
		case errors.Is(err, shim.ErrNotExec):
			out.ExitCode = 126
		}
		if ended.Reason == "can't start" {
			out.Message = ended.Err.Error()
		} else if action != nil && errors.Is(err, reconciler.ErrCondition) {
			out.Message = reconciler.ErrCondition.Error() + ": " + ended.Error()
		}
	}
	return out
}

func located(position, text string) string {
	if position == "" {
		return text
	}
	return position + ": " + text
}

// several are the errors of an operation in which several things failed; none for a single error, whatever it wraps.
func several(err error) []error {
	var many reconciler.Errors
	if errors.As(err, &many) {
		return many
	}
	var problems planner.Problems
	if errors.As(err, &problems) {
		return problems.Unwrap()
	}
	return nil
}

// remedies are what to do about errors whose packages don't say it themselves, first match first.
var remedies = []struct {
	err    error
	remedy string
}{
	{netdriver.ErrPortInUse, "publish another host port, or stop what has this one"},
	{netdriver.ErrOverlap, "give the network another subnet under `ipam:`, or leave it out to get one that is free"},
	{netdriver.ErrConflict, "remove the network (`stack down`) so that it is made anew, or put back the options it was made with"},
	{netdriver.ErrExhausted, "give the network a larger subnet under `ipam:`, or remove networks that nobody uses (`stack network prune`)"},
	{netdriver.ErrNotFound, "`stack up` makes the networks of a stack file; one that is external has to be there before"},
	{syscall.EADDRNOTAVAIL, "publish on an address that this host has, or leave the address out for all"},
	{voldriver.ErrConflict, "remove the volume (`stack volume rm`; its data goes with it), or put back the options it was made with"},
	{image.ErrNoSpace, "make room on the filesystem of the daemon's folder: `stack image ls` and `stack volume ls` show what is there"},
	{shim.ErrNoSpace, "make room on the filesystem of the daemon's folder: `stack image ls` and `stack volume ls` show what is there"},
	{syscall.ENOSPC, "make room on the filesystem of the daemon's folder: `stack image ls` and `stack volume ls` show what is there"},
	{reconciler.ErrNoJob, "`stack up` takes the jobs of a stack file over"},
	{reconciler.ErrNoManual, "take `manual: false` out of its triggers"},
	{runtime.ErrRunning, "stop it first, or force the removal"},
	{runtime.ErrNotRunning, "start it with `stack up` or `stack start`"},
	{shim.ErrNoCommand, "check `command` and `entrypoint`: the program has to be in the image"},
	{shim.ErrNotExec, "the file has to be an executable program of this machine's kind, with the x bit set"},
	{reconciler.ErrNoRevision, "`stack history` lists those that are kept"},
	{reconciler.ErrNoStack, "`stack up` makes one; `stack ls -a` shows those there are"},
	{reconciler.ErrMoved, "make a new plan, and read it"},
	{shim.ErrLost, "the stack's shim ended in the middle of it; try again"},
}

func remedy(err error) string {
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			return r.remedy
		}
	}
	return ""
}

func (b *backend) failures(ctx context.Context, errs []error) *api.Error {
	var first *api.Error
	for _, err := range errs {
		e := b.failure(ctx, err)
		if first == nil {
			first = e
		} else {
			others := e.Others
			e.Others = nil
			first.Others = append(append(first.Others, *e), others...)
		}
	}
	return first
}

// codes are the classes of the errors that the rooms declare, first match first.
var codes = []struct {
	err  error
	code api.Code
}{
	{context.DeadlineExceeded, api.Timeout},
	{context.Canceled, api.Canceled},
	{image.ErrNoSpace, api.NoSpace},
	{shim.ErrNoSpace, api.NoSpace},
	{image.ErrUnauthorized, api.Denied},
	{image.ErrUnavailable, api.Unavailable},
	{image.ErrNotFound, api.NotFound},
	{image.ErrPlatform, api.NotFound},
	{image.ErrInvalid, api.Invalid},
	{image.ErrInUse, api.Conflict},
	{runtime.ErrNotFound, api.NotFound},
	{runtime.ErrNotRunning, api.Conflict},
	{runtime.ErrRunning, api.Conflict},
	{runtime.ErrRuntime, api.Invalid},
	{netdriver.ErrNotFound, api.NotFound},
	{netdriver.ErrInUse, api.Conflict},
	{netdriver.ErrOverlap, api.Conflict},
	{netdriver.ErrConflict, api.Conflict},
	{netdriver.ErrPortInUse, api.Conflict},
	{netdriver.ErrExhausted, api.Conflict},
	{netdriver.ErrUnsupported, api.Invalid},
	{voldriver.ErrNotFound, api.NotFound},
	{voldriver.ErrInUse, api.Conflict},
	{voldriver.ErrConflict, api.Conflict},
	{voldriver.ErrUnsupported, api.Invalid},
	{voldriver.ErrMissing, api.NotFound},
	{shim.ErrNotFound, api.NotFound},
	{shim.ErrConflict, api.Conflict},
	{shim.ErrNoCommand, api.Failed},
	{shim.ErrNotExec, api.Failed},
	{shim.ErrInvalid, api.Invalid},
	{reconciler.ErrCondition, api.Failed},
	{reconciler.ErrNameTaken, api.Conflict},
	{reconciler.ErrNoJob, api.NotFound},
	{reconciler.ErrNoRun, api.NotFound},
	{reconciler.ErrNoManual, api.Denied},
	{reconciler.ErrNoRevision, api.NotFound},
	{reconciler.ErrNoStack, api.NotFound},
	{reconciler.ErrContentChanged, api.Conflict},
	{reconciler.ErrMoved, api.Conflict},
	{syscall.ENOSPC, api.NoSpace},
	{syscall.EADDRNOTAVAIL, api.Invalid},
}

func code(err error) api.Code {
	var problem planner.Problem
	var fault *reconciler.AddressError
	if errors.As(err, &problem) || errors.As(err, &fault) {
		return api.Invalid
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return api.Internal
}

// lastLogLines is how many lines of a failed container's log come with the error.
const lastLogLines = 10

func (b *backend) lastLines(ctx context.Context, id string) []string {
	var lines []string
	err := b.engine.Logs(ctx, id, logs.Options{Tail: lastLogLines}, func(e logs.Entry) error {
		lines = append(lines, strings.TrimRight(string(e.Line), "\r\n"))
		return nil
	})
	if err != nil {
		b.options.Logf("last log lines of %.12s: %v", id, err)
	}
	return lines
}
