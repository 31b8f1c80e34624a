package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// attachment is an `up` that stays: it shows what the containers print until all of them have exited, one of them ends
// the whole (--abort-on-container-...), or the user does (Ctrl-C: stop, once more: kill).
type attachment struct {
	c        *cli
	d        *client.Client
	f        upFlags
	request  api.UpRequest
	attach   []string // services to show
	oneShot  map[string]bool
	began    time.Time
	progress ui.Progress
	printer  *ui.LogPrinter
	quiet    sync.Once // the live display ends at the first line of output

	containers map[string]api.Container // as Watch last told, by id
	ended      map[string]bool          // containers whose last line was printed, by name
	upDone     bool
	aborted    *int // exit code of the container that ends the whole
}

// lastLines is how long the output of containers that have exited is waited for.
const lastLines = 2 * time.Second

func (c *cli) attachedUp(ctx context.Context, d *client.Client, request api.UpRequest, f upFlags, attach []string) error {
	a := &attachment{
		c: c, d: d, f: f, request: request, attach: attach,
		oneShot:  oneShots(request.Stack),
		began:    time.Now(),
		progress: c.progress("up"),
		printer: ui.NewLogPrinter(c.out, c.err, ui.LogOptions{
			Stack: request.Stack.Name, Color: !f.noColor && c.colorOn(c.out), NoPrefix: f.noPrefix, Timestamps: f.timestamps,
		}),
		containers: map[string]api.Container{},
		ended:      map[string]bool{},
	}
	a.expect()
	return a.run(ctx)
}

// oneShots are services that others wait for the completion of: their success ends nothing.
func oneShots(stack *spec.Stack) map[string]bool {
	services := map[string]bool{}
	for _, service := range stack.Services {
		for name, dependency := range service.DependsOn {
			if dependency.Condition == spec.CompletedSuccessfully {
				services[name] = true
			}
		}
	}
	return services
}

// expect makes room for the names of all containers whose output may come.
func (a *attachment) expect() {
	for _, name := range a.attach {
		service := a.request.Stack.Services[name]
		n := service.Replicas
		if scaled, ok := a.request.Options.Scale[name]; ok {
			n = scaled
		}
		for i := range n {
			a.printer.Expect(service.ContainerNameOf(a.request.Stack.Name, i+1))
		}
	}
}

// run is the one goroutine that decides; the others only tell it what happens.
func (a *attachment) run(ctx context.Context) error {
	defer a.progress.Close()
	streams, stopStreams := context.WithCancel(ctx)
	defer stopStreams()
	operation, cancelOperation := context.WithCancel(ctx)
	defer cancelOperation()

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	var others sync.WaitGroup
	defer others.Wait()
	defer stopStreams()
	changes := make(chan api.Container)
	entries := make(chan api.LogEntry, 256)
	lost := make(chan error, 2)
	others.Go(func() { lost <- a.watch(streams, changes) })
	if services := a.watched(); services == nil || len(services) > 0 {
		others.Go(func() { lost <- a.follow(streams, services, entries) })
	}
	up := make(chan outcome, 1)
	go func() {
		result, err := a.d.Up(operation, a.request, a.progress.Event)
		up <- outcome{result, err}
	}()

	for {
		select {
		case o := <-up:
			up = nil
			if o.err != nil {
				a.drain(entries, lastLines/10) // what a failed container said
				return o.err
			}
			a.upDone = true
			for _, c := range o.result.Containers {
				if _, known := a.containers[c.ID]; !known { // what Watch told is newer
					a.containers[c.ID] = c
				}
			}
		case change := <-changes:
			a.containers[change.ID] = change
		case entry := <-entries:
			a.show(entry)
		case err := <-lost:
			if err != nil {
				return err
			}
		case <-signals:
			cancelOperation()
			return a.interrupt(ctx, signals, entries, up)
		}
		finished := a.upDone && a.allExited()
		if finished {
			a.drain(entries, lastLines)
		}
		if a.aborted != nil {
			cancelOperation()
			return a.abort(ctx, signals, entries, *a.aborted, up)
		}
		if finished {
			return nil
		}
	}
}

// outcome is how the up itself ended.
type outcome struct {
	result api.Result
	err    error
}

func (a *attachment) watch(ctx context.Context, changes chan<- api.Container) error {
	err := a.d.Watch(ctx, a.request.Stack.Name, func(c api.Container) error {
		select {
		case changes <- c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *attachment) follow(ctx context.Context, services []string, entries chan<- api.LogEntry) error {
	request := api.LogRequest{Services: services, Since: a.began, Tail: -1, Follow: true}
	err := a.d.Logs(ctx, a.request.Stack.Name, request, func(e api.LogEntry) error {
		select {
		case entries <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watched are the services whose log is followed, nil for all: with an --abort-on-... flag any of them may end the whole.
func (a *attachment) watched() []string {
	if a.f.abortOnExit || a.f.abortOnFailure {
		return nil
	}
	return a.attach
}

func (a *attachment) show(e api.LogEntry) {
	if e.Event == "exit" {
		a.ended[e.Container] = true
		if a.aborted == nil && a.aborts(e) {
			a.aborted = &e.ExitCode
		}
	}
	if !slices.Contains(a.attach, e.Service) {
		return
	}
	a.quiet.Do(func() {
		a.progress.Close()
		fmt.Fprintf(a.c.err, "Attaching to %s\n", strings.Join(a.attach, ", "))
	})
	a.printer.Print(e)
}

// aborts tells whether an exit ends the whole.
func (a *attachment) aborts(e api.LogEntry) bool {
	if e.ExitCode == 0 && a.oneShot[e.Service] {
		return false
	}
	return a.f.abortOnExit || a.f.abortOnFailure && e.ExitCode != 0
}

// abort stops everything after one container's exit; the code is that container's, or that of --exit-code-from's service.
func (a *attachment) abort(ctx context.Context, signals <-chan os.Signal, entries <-chan api.LogEntry, code int, up <-chan outcome) error {
	a.progress.Close()
	fmt.Fprintln(a.c.err, "Aborting on container exit...")
	if err := a.stop(ctx, signals, entries, up); err != nil {
		return err
	}
	if a.f.exitCodeFrom == "" {
		return exit(code)
	}
	containers, err := a.d.Containers(ctx, a.request.Stack.Name)
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c.Service == a.f.exitCodeFrom && !c.OneOff {
			return exit(c.ExitCode)
		}
	}
	return fmt.Errorf("--exit-code-from %s: it has no container", a.f.exitCodeFrom)
}

// interrupt is the way out by Ctrl-C.
func (a *attachment) interrupt(ctx context.Context, signals <-chan os.Signal, entries <-chan api.LogEntry, up <-chan outcome) error {
	a.progress.Close()
	fmt.Fprintln(a.c.err, "Gracefully stopping... (press Ctrl+C again to force)")
	if err := a.stop(ctx, signals, entries, up); err != nil {
		return err
	}
	return exit(interrupted)
}

// stop stops what up started, and kills it at the next signal. Output is shown meanwhile.
func (a *attachment) stop(ctx context.Context, signals <-chan os.Signal, entries <-chan api.LogEntry, up <-chan outcome) error {
	if up != nil {
		<-up // it was cancelled, and must not start more behind our back
	}
	stopping, cancel := context.WithCancel(ctx)
	defer cancel()
	op := func(ctx context.Context, verb string) <-chan error {
		progress := a.c.progress(verb)
		done := make(chan error, 1)
		go func() {
			defer progress.Close()
			request := api.OpRequest{Stack: a.request.Stack, Services: a.request.Options.Services, Timeout: a.request.Options.Timeout}
			_, err := a.d.Op(ctx, verb, a.request.Stack.Name, request, progress.Event)
			done <- err
		}()
		return done
	}
	done := op(stopping, "stop")
	killed := false
	for {
		select {
		case err := <-done:
			if err == nil || killed {
				a.drain(entries, lastLines/10)
			}
			return err
		case entry := <-entries:
			a.show(entry)
		case <-signals:
			if !killed {
				killed = true
				cancel()
				<-done
				done = op(ctx, "kill")
			}
		}
	}
}

// allExited tells whether no container that is shown runs any more, nor will by its restart policy.
func (a *attachment) allExited() bool {
	for _, c := range a.containers {
		if !slices.Contains(a.attach, c.Service) || c.OneOff {
			continue
		}
		switch c.State {
		case planner.Running, planner.Paused, planner.Restarting, planner.Created:
			return false
		}
	}
	return len(a.containers) > 0 || len(a.attach) == 0
}

// drain shows what is on its way until every container that exited has said its last line, or limit is over.
func (a *attachment) drain(entries <-chan api.LogEntry, limit time.Duration) {
	over := time.After(limit)
	for !a.drained() {
		select {
		case entry := <-entries:
			a.show(entry)
		case <-over:
			return
		}
	}
	for {
		select {
		case entry := <-entries:
			a.show(entry)
		default:
			return
		}
	}
}

// drained tells whether the last line of every container that exited since this up began was shown.
func (a *attachment) drained() bool {
	for _, c := range a.containers {
		if c.State == planner.Exited && c.Finished.After(a.began) && slices.Contains(a.attach, c.Service) && !a.ended[c.Name] {
			return false
		}
	}
	return true
}
