package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/reconciler/watch"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/load"
)

// watching is a watch at work: what reconciler/watch asks for, it has the daemon do, and it follows the stack file.
type watching struct {
	c        *cli
	d        *client.Client
	flags    watchFlags
	upFlags  upFlags // of each convergence
	services []string
	view     *watchView
	inputs   *watch.Inputs

	mu    sync.Mutex
	stack *spec.Stack // the last good one
	files []string    // that it was loaded from
	bad   bool        // the file that is there now is not it
}

func (w *watching) close() { w.inputs.Close() }

// attach makes the watch part of an attached up: its lines come among the containers' lines.
func (w *watching) attach(d *client.Client) {
	w.d, w.view.live = d, false
	w.inLines()
}

// inLines has progress told in lines: a live display would redraw itself over what else is told meanwhile.
func (w *watching) inLines() {
	if mode := ui.Mode(w.c.progressMode); mode == ui.Auto || mode == ui.TTY {
		w.c.progressMode = string(ui.Plain)
	}
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func refusal(position, address, summary, remedy string) spec.Diagnostic {
	d := spec.Diagnostic{Severity: spec.Error, Path: address, Summary: summary, Remedy: remedy}
	parts := strings.Split(position, ":")
	if n := len(parts); n > 2 {
		d.File = strings.Join(parts[:n-2], ":")
		d.Line, _ = strconv.Atoi(parts[n-2])
		d.Column, _ = strconv.Atoi(parts[n-1])
	}
	return d
}

// again is what of an `up`'s flags holds for each convergence after it: not what forces something for once.
func (f upFlags) again() upFlags {
	f.forceRecreate, f.recreateDeps, f.renewVolumes, f.build, f.pull = false, false, false, false, ""
	f.command = "watch"
	return f
}

// up builds what is to be built and converges, before the watch begins.
func (w *watching) up(ctx context.Context) error {
	watched, err := w.watched(w.stack)
	if err != nil {
		return err
	}
	var developed []string
	for name, s := range watched {
		if s.Develop != nil && buildable(s) {
			developed = append(developed, name)
		}
	}
	replaced, err := w.build(ctx, w.stack, developed)
	if err != nil {
		return err
	}
	defer w.prune(ctx, replaced)
	if err := w.c.buildMissing(ctx, w.d, w.upFlags.convergeFlags, w.stack, w.services, w.flags.quiet); err != nil {
		return err
	}
	request, err := w.upFlags.request(w.stack, w.services)
	if err != nil {
		return err
	}
	request.QuietPull = w.flags.quiet
	return w.converge(ctx, request)
}

func (w *watching) converge(ctx context.Context, request api.UpRequest) error {
	progress := w.c.progress("up")
	defer progress.Close()
	_, err := w.d.Up(ctx, request, progress.Event)
	return err
}

// run watches until ctx ends.
func (w *watching) run(ctx context.Context) error {
	w.inLines()
	watched, err := w.watched(w.stack)
	if err != nil {
		return err
	}
	containers := make(chan watch.Container)
	services := make(chan map[string]*spec.Service)
	var others sync.WaitGroup
	defer others.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	others.Go(func() { w.follow(ctx, containers) })
	others.Go(func() { w.followFiles(ctx, services) })
	err = watch.Run(ctx, watch.Options{Target: w, Services: watched, Report: w.view.event}, containers, services)
	if err != nil {
		return err
	}
	w.view.line("", "Watch disabled")
	return ctx.Err()
}

// follow tells of the containers that run, of one daemon after the other.
func (w *watching) follow(ctx context.Context, containers chan<- watch.Container) {
	for ctx.Err() == nil {
		_ = w.d.Watch(ctx, w.name(), func(c api.Container) error { // it ends with the daemon, or with ctx
			if c.PID == 0 || c.OneOff {
				return nil
			}
			select {
			case containers <- watch.Container{ID: c.ID, Service: c.Service, Started: c.Started}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // the next daemon may not be there yet
		}
	}
}

func (w *watching) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stack.Name
}

func (w *watching) current() *spec.Stack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stack
}

// setInputs watches the files of a load, and what is ignored by files of their own.
func (w *watching) setInputs(loaded *load.Result) error {
	files := slices.Concat(loaded.Inputs, loaded.Links)
	for _, s := range loaded.Stack.Services {
		if s.Develop != nil && s.Develop.Context != "" {
			files = append(files, filepath.Join(s.Develop.Context, ".dockerignore"))
		}
	}
	w.files = files
	return w.inputs.Set(files, loaded.Started)
}

// followFiles applies the stack file whenever it changes.
func (w *watching) followFiles(ctx context.Context, services chan<- map[string]*spec.Service) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.inputs.Changed():
		}
		began := time.Now()
		watched, err := w.apply(ctx, began)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.view.failed(err)
		}
		if watched == nil {
			w.bad = true
			continue
		}
		w.bad = false
		select {
		case services <- watched:
		case <-ctx.Done():
			return
		}
	}
}

// apply converges to the stack file as it is now, and returns the services to watch. What is wrong with it leaves all as it
// is, and returns none.
func (w *watching) apply(ctx context.Context, began time.Time) (map[string]*spec.Service, error) {
	loaded, err := w.load(ctx)
	if err == nil && loaded.Stack.Name != w.name() {
		err = fmt.Errorf("the stack is called %s now: end the watch, and begin another one", loaded.Stack.Name)
	}
	if err != nil {
		return nil, errors.Join(keptState{err}, w.inputs.Set(w.files, began))
	}
	if err := w.setInputs(loaded); err != nil {
		w.view.problem(err) // what it says is good, even if the next change of it is not heard of
	}
	stack := loaded.Stack
	watched, err := w.watched(stack)
	if err != nil {
		return nil, keptState{err}
	}
	request, err := w.upFlags.request(stack, w.services)
	if err != nil {
		return nil, keptState{err}
	}
	if err := w.c.buildMissing(ctx, w.d, w.upFlags.convergeFlags, stack, w.services, w.flags.quiet); err != nil {
		return nil, keptState{err}
	}
	plan, err := w.d.Plan(ctx, request)
	if err != nil {
		return nil, keptState{err}
	}
	ui.PrintDiagnostics(w.c.err, loaded.Warnings, w.c.colorOn(w.c.err))
	w.mu.Lock()
	w.stack = stack
	w.mu.Unlock()
	if plan.Empty() {
		if w.bad {
			w.view.line("", "Stack file is good again, and changes nothing")
		}
		return watched, nil
	}
	w.view.line("", "Stack file changed")
	if err := w.c.printPlan(plan.Plan); err != nil {
		return watched, err
	}
	if err := w.converge(ctx, request); err != nil {
		return watched, err
	}
	w.view.took("", "Applied", time.Since(began))
	return watched, nil
}

// keptState is why a changed stack file was not applied.
type keptState struct{ error }

func (e keptState) Unwrap() error { return e.error }

// Place has files placed in containers.
func (w *watching) Place(ctx context.Context, service string, containers []string, sets []watch.Set) ([]watch.Placed, error) {
	request := api.PlaceRequest{Service: service, Containers: containers}
	for _, s := range sets {
		request.Sets = append(request.Sets, api.PlaceSet{Source: s.Source, Target: s.Target, Paths: s.Paths, Ignore: s.Ignore})
	}
	result, err := w.d.Place(ctx, w.name(), request)
	if err != nil {
		return nil, err
	}
	var placed []watch.Placed
	for _, p := range result.Containers {
		out := watch.Placed{
			Container: p.Name, Written: p.Written, Unchanged: p.Unchanged, Removed: p.Removed, Skipped: p.Skipped, Bytes: p.Bytes,
		}
		for _, f := range p.Failures {
			out.Failures = append(out.Failures, f.Path+": "+f.Message)
		}
		if p.Error != nil {
			out.Err = p.Error
			if p.Error.Code == api.ReadOnly {
				out.Err = fmt.Errorf("%w: %w", watch.ErrCannotSync, p.Error)
			}
		}
		placed = append(placed, out)
	}
	return placed, nil
}

// Restart restarts services, as `stack restart` does.
func (w *watching) Restart(ctx context.Context, services []string) error {
	_, err := w.d.Op(ctx, "restart", w.name(), api.OpRequest{Stack: w.current(), Services: services}, func(api.Event) {})
	return err
}

// Exec runs a command in each container of a service and shows what it prints.
func (w *watching) Exec(ctx context.Context, service string, x *spec.WatchExec) error {
	containers, err := w.d.Containers(ctx, w.name())
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range containers {
		if c.Service != service || c.OneOff || c.PID == 0 {
			continue
		}
		if err := w.execIn(ctx, c, x); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", c.Name, strings.Join(x.Command, " "), err))
		}
	}
	return errors.Join(errs...)
}

func (w *watching) execIn(ctx context.Context, c api.Container, x *spec.WatchExec) error {
	request := api.ExecRequest{
		Service: c.Service, Container: c.ID, Args: x.Command, User: x.User, Privileged: x.Privileged, Cwd: x.WorkingDir,
	}
	for _, name := range sortedNames(x.Environment) {
		request.Env = append(request.Env, name+"="+x.Environment[name])
	}
	session, err := w.d.Exec(ctx, w.name(), request)
	if err != nil {
		return err
	}
	defer session.Close()
	session.CloseStdin()
	out := w.view.output(c.Service)
	defer out.Close()
	code, err := session.Copy(out, out)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

// Rebuilds tells whether a command makes the service's image.
func (w *watching) Rebuilds(service string) bool {
	s := w.current().Services[service]
	return s != nil && buildable(s)
}

// Rebuild makes the images of services anew and replaces their containers.
func (w *watching) Rebuild(ctx context.Context, services []string) error {
	stack := w.current()
	replaced, err := w.build(ctx, stack, services)
	if err != nil {
		return err
	}
	request, err := w.upFlags.request(stack, services)
	if err != nil {
		return err
	}
	request.Options.NoDeps, request.Options.ForceRecreate, request.Options.Pull = true, true, "never"
	if _, err = w.d.Up(ctx, request, func(api.Event) {}); err == nil {
		w.prune(ctx, replaced)
	}
	return err
}

// build runs the builds of services and returns the images that have no name any more since.
func (w *watching) build(ctx context.Context, stack *spec.Stack, services []string) (replaced []string, err error) {
	err = w.c.build(ctx, w.d, buildOptions{
		stack: stack, services: services, quiet: w.flags.quiet,
		output:   func(service string) io.WriteCloser { return w.view.output(service) },
		replaced: func(image string) { replaced = append(replaced, image) },
	})
	return replaced, err
}

// prune removes images that a build has replaced. One that a container still has, of another stack say, stays.
func (w *watching) prune(ctx context.Context, replaced []string) {
	if !w.flags.prune {
		return
	}
	for _, image := range replaced {
		_, _ = w.d.RemoveImage(ctx, image, false)
	}
}
