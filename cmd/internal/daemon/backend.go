package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/server"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
)

// backend is what the server's requests come down to.
type backend struct {
	*parts
	options Options
	stop    context.CancelFunc
}

func (b *backend) Info(context.Context) api.DaemonInfo {
	info := api.DaemonInfo{
		Version: b.options.Version, API: api.Version, Root: b.options.Root, RunDir: b.options.RunDir, PID: os.Getpid(), Cgroup: "v1",
	}
	if b.engine.CgroupV2() {
		info.Cgroup = "v2"
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		info.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return info
}

func (b *backend) Stacks(context.Context) ([]api.StackSummary, error) {
	names, err := b.reconciler.Stacks()
	if err != nil {
		return nil, err
	}
	var out []api.StackSummary
	for _, name := range names {
		s := api.StackSummary{Name: name, States: map[string]int{}}
		if desired, err := b.reconciler.Desired(name); err != nil {
			b.options.Logf("%v", err) // the others are no worse for it; `status` tells
		} else if desired != nil {
			s.Files = desired.Files
		}
		for _, c := range b.reconciler.Containers(name) {
			if !c.OneOff {
				s.States[c.State]++
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func (b *backend) Containers(ctx context.Context, stack string) ([]api.Container, error) {
	var out []api.Container
	for _, s := range b.reconciler.Containers(stack) {
		out = append(out, b.container(ctx, s))
	}
	return out, nil
}

func (b *backend) Watch(ctx context.Context, stack string, send func(api.Container)) error {
	type seenState struct {
		state, health string
		started       time.Time
		sent          api.Container
	}
	last := map[string]seenState{}
	for {
		changed := b.reconciler.Changed(stack)
		seen := map[string]bool{}
		for _, s := range b.reconciler.Containers(stack) {
			seen[s.ID] = true
			now := seenState{state: s.State, health: s.Health, started: s.View.State.Started}
			if old, ok := last[s.ID]; ok && old.state == now.state && old.health == now.health && old.started.Equal(now.started) {
				continue
			}
			now.sent = b.container(ctx, s)
			send(now.sent)
			last[s.ID] = now
		}
		for id, old := range last {
			if !seen[id] {
				delete(last, id)
				old.sent.State = "removed"
				send(old.sent)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *backend) sink(ctx context.Context, send func(api.Event), quietPull bool) reconciler.Sink {
	return func(e reconciler.Event) {
		if quietPull && e.Kind == "progress" {
			return
		}
		send(b.event(ctx, e))
	}
}

func (b *backend) Plan(ctx context.Context, req api.UpRequest) (api.Proposal, error) {
	req.Options.WaitHealthy = req.Wait
	p, err := b.reconciler.Propose(ctx, req.Stack, req.Options, req.Explain)
	if err != nil {
		return api.Proposal{}, b.failure(ctx, err)
	}
	return api.Proposal{Plan: p.Plan, Basis: &p.Basis, Explanations: p.Explanations}, nil
}

func (b *backend) Up(ctx context.Context, req api.UpRequest, send func(api.Event)) (api.Result, error) {
	req.Options.WaitHealthy = req.Wait
	opts := reconciler.UpOptions{Options: req.Options, WaitTimeout: req.WaitTimeout, Cause: cause(ctx, cmpOr(req.Command, "up")), Expect: req.Expect}
	opts.Cause.Ref = req.Ref
	changed, err := b.reconciler.Up(ctx, req.Stack, opts, b.sink(ctx, send, req.QuietPull))
	result, err := b.result(ctx, changed, err)
	if err == nil && req.Containers {
		result.Containers, err = b.Containers(ctx, req.Stack.Name)
	}
	return result, err
}

// cause is what a revision made by a request is recorded with.
func cause(ctx context.Context, command string) reconciler.Cause {
	return reconciler.Cause{By: server.Peer(ctx), Command: command}
}

func (b *backend) result(ctx context.Context, changed int, err error) (api.Result, error) {
	if err != nil {
		err = b.failure(context.WithoutCancel(ctx), err)
	}
	return api.Result{Changed: changed}, err
}

// op turns an operation's request into its planner function.
func (b *backend) op(op string, req api.OpRequest) (reconciler.Op, error) {
	switch op {
	case "down":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Down(o, d, downOptions(req))
		}, nil
	case "stop":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Stop(o, d, planner.StopOptions{Services: req.Services, Timeout: req.Timeout})
		}, nil
	case "start":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Start(o, d, planner.StartOptions{Services: req.Services, Wait: req.Wait})
		}, nil
	case "restart":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Restart(o, d, planner.RestartOptions{Services: req.Services, NoDeps: req.NoDeps, Timeout: req.Timeout})
		}, nil
	case "kill":
		if _, err := bundle.ParseSignal(cmpOr(req.Signal, "KILL")); err != nil {
			return nil, &api.Error{Code: api.Invalid, Message: err.Error()}
		}
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Kill(o, d, planner.KillOptions{Services: req.Services, Signal: req.Signal, RemoveOrphans: req.RemoveOrphans})
		}, nil
	case "rm":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Remove(o, d, planner.RemoveOptions{Services: req.Services, Stop: req.Stop, Volumes: req.Volumes, Timeout: req.Timeout})
		}, nil
	case "pause":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Pause(o, d, req.Services)
		}, nil
	case "unpause":
		return func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Unpause(o, d, req.Services)
		}, nil
	}
	return nil, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("no such operation: %q", op)}
}

func downOptions(req api.OpRequest) planner.DownOptions {
	return planner.DownOptions{
		Services: req.Services, Volumes: req.Volumes, Images: req.Images, RemoveOrphans: req.RemoveOrphans, Timeout: req.Timeout,
	}
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (b *backend) Op(ctx context.Context, op, stack string, req api.OpRequest, send func(api.Event)) (api.Result, error) {
	do, err := b.op(op, req)
	if err != nil {
		return api.Result{}, err
	}
	if req.WaitTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.WaitTimeout)
		defer cancel()
	}
	var changed int
	if op == "down" {
		changed, err = b.reconciler.Down(ctx, stack, req.Stack, downOptions(req), b.sink(ctx, send, false))
	} else {
		changed, err = b.reconciler.Do(ctx, stack, req.Stack, do, b.sink(ctx, send, false))
	}
	return b.result(ctx, changed, err)
}

func (b *backend) PlanOp(ctx context.Context, op, stack string, req api.OpRequest) (planner.Plan, error) {
	do, err := b.op(op, req)
	if err != nil {
		return planner.Plan{}, err
	}
	plan, err := b.reconciler.PlanOp(ctx, stack, req.Stack, do)
	if err != nil {
		return plan, b.failure(ctx, err)
	}
	return plan, nil
}

func (b *backend) Pull(ctx context.Context, req api.PullRequest, send func(api.Event)) (api.Result, error) {
	changed, err := b.reconciler.Pull(ctx, req.Stack, reconciler.PullOptions{
		Services: req.Services, Policy: req.Policy, IncludeDeps: req.IncludeDeps, IgnoreFailures: req.IgnoreFailures,
	}, b.sink(ctx, send, false))
	return b.result(ctx, changed, err)
}

// Run creates a one-off container and starts it, or leaves that to the session that attaches to it.
func (b *backend) Run(ctx context.Context, req api.RunRequest, send func(api.Event)) (api.Result, error) {
	v, err := b.reconciler.Run(ctx, req.Stack, &req.Service, reconciler.RunOptions{
		Name: req.Name, NoDeps: req.NoDeps, Remove: req.Remove, ServicePorts: req.ServicePorts, UseAliases: req.UseAliases, Pull: req.Pull,
		Cause: cause(ctx, "run"),
	}, b.sink(ctx, send, false))
	if err != nil {
		return api.Result{}, b.failure(ctx, err)
	}
	if !req.Attach {
		if err := b.reconciler.Start(ctx, v.ID); err != nil {
			return api.Result{}, b.failure(ctx, b.withUndo(ctx, err, v, req.Remove))
		}
	}
	return api.Result{Changed: 1, Container: v.ID}, nil
}

// withUndo removes a one-off container that could not be started where it was to be removed in the end anyway, and
// returns why it could not.
func (b *backend) withUndo(ctx context.Context, err error, v runtime.View, remove bool) error {
	if !remove {
		return err
	}
	if undo := b.reconciler.Remove(context.WithoutCancel(ctx), v.ID, true, true); undo != nil {
		b.options.Logf("clean up %s: %v", v.Name, undo)
	}
	return err
}

// find returns a container of a stack by service and replica, or by its name or id.
func (b *backend) find(stack, service string, index int, ref string) (runtime.View, error) {
	if ref != "" {
		return b.reconciler.Find(ref)
	}
	var found []runtime.View
	for _, v := range b.engine.List(stack) {
		if v.Service == service && !v.OneOff && (index == 0 || v.Replica == index) {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		what := fmt.Sprintf("service %q", service)
		if index > 0 {
			what += fmt.Sprintf(" #%d", index)
		}
		return runtime.View{}, &api.Error{Code: api.NotFound, Address: spec.ServiceAddress(service).String(),
			Message: what + " has no container", Remedy: "start it with `stack up`"}
	}
	slices.SortFunc(found, func(a, b runtime.View) int { // of two during a rollout, the one that serves
		return cmp.Or(a.Replica-b.Replica, strings.Compare(a.Succeeds, b.Succeeds))
	})
	for _, v := range found {
		if v.Running() {
			return v, nil
		}
	}
	return found[0], nil
}

func (b *backend) WaitContainer(ctx context.Context, _, container string) (int, error) {
	v, err := b.reconciler.Find(container)
	if err != nil {
		return 0, b.failure(ctx, err)
	}
	wait, err := b.engine.Waiter(v.ID)
	if err != nil {
		return 0, b.failure(ctx, err)
	}
	return wait(ctx)
}

func (b *backend) Signal(ctx context.Context, _, container, signal string) error {
	v, err := b.reconciler.Find(container)
	if err != nil {
		return b.failure(ctx, err)
	}
	sig, err := bundle.ParseSignal(signal)
	if err != nil {
		return &api.Error{Code: api.Invalid, Message: err.Error()}
	}
	if err := b.engine.Signal(ctx, v.ID, sig); err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

func (b *backend) RemoveContainer(ctx context.Context, _, container string, force, volumes bool) error {
	v, err := b.reconciler.Find(container)
	if err == nil {
		err = b.reconciler.Remove(ctx, v.ID, force, volumes)
	}
	if err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

func (b *backend) Images(ctx context.Context) ([]api.Image, error) {
	images, err := b.images.List(ctx)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var out []api.Image
	for _, img := range images {
		out = append(out, api.Image{
			ID: img.ID, Names: img.Names, Digest: img.Digest, Size: img.Size, Created: img.Created, Platform: img.Platform,
			UsedBy: b.imageUsers(img.ID),
		})
	}
	return out, nil
}

func (b *backend) Image(ctx context.Context, ref string) (any, error) {
	details, err := b.images.Inspect(ctx, ref)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	return details, nil
}

func (b *backend) PullImage(ctx context.Context, ref, platform string, send func(api.Event)) (api.Result, error) {
	name := spec.ImageAddress(ref).String()
	_, err := b.images.Pull(ctx, ref, image.PullOptions{Platform: platform, Progress: func(p image.Progress) {
		send(b.event(ctx, reconciler.Event{Kind: "progress", Address: name, Action: planner.Action{Kind: planner.PullImage, Address: name, Name: ref}, Progress: p}))
	}})
	if err != nil {
		return api.Result{}, b.failure(ctx, err)
	}
	return api.Result{Changed: 1}, nil
}

func (b *backend) LoadImage(ctx context.Context, r io.Reader, name string, _ func(api.Event)) ([]string, error) {
	images, err := b.images.Load(ctx, r, image.LoadOptions{Name: name})
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var names []string
	for _, img := range images {
		names = append(names, img.Names...)
	}
	return names, nil
}

func (b *backend) RemoveImage(ctx context.Context, ref string, force bool) ([]string, error) {
	report, err := b.images.Remove(ctx, ref, force)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var lines []string
	for _, name := range report.Untagged {
		lines = append(lines, "Untagged: "+name)
	}
	for _, id := range report.Deleted {
		lines = append(lines, "Deleted: "+id)
	}
	return lines, nil
}

func (b *backend) Shutdown(context.Context) error {
	b.stop()
	return nil
}
