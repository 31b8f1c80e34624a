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
//
// One goroutine, run, decides and prints. The others tell it over channels what happens: the up itself, the changes of
// containers, and for each container that runs what it prints (followed.go).
type attachment struct {
	c        *cli
	d        *client.Client
	f        upFlags
	request  api.UpRequest
	attach   []string        // services to show
	names    []string        // of their containers, as prefixes show them
	oneShot  map[string]bool // services whose success ends nothing
	watching *watching       // nil without --watch; it begins when the up has ended
	began    time.Time
	progress ui.Progress
	printer  *ui.LogPrinter
	announce sync.Once

	signals chan os.Signal
	up      chan outcome // nil once the up has ended
	changes chan api.Container
	outputs chan output
	lost    chan error

	streams    context.Context
	others     sync.WaitGroup
	containers map[string]*followed // by id
	aborted    *int                 // exit code of the container that ends the whole
}

// outcome is how the up itself ended.
type outcome struct {
	result api.Result
	err    error
}

// lastWords is how long the output of containers that have exited is waited for.
const lastWords = 2 * time.Second

func (c *cli) attachedUp(ctx context.Context, d *client.Client, request api.UpRequest, f upFlags, attach []string, w *watching) error {
	a := &attachment{
		c: c, d: d, f: f, request: request, attach: attach, watching: w,
		oneShot:  oneShots(request.Stack),
		began:    time.Now(),
		progress: c.progress("up"),
		printer: ui.NewLogPrinter(c.out, c.err, ui.LogOptions{
			Stack: request.Stack.Name, Color: !f.noColor && c.colorOn(c.out), NoPrefix: f.noPrefix, Timestamps: f.timestamps,
		}),
		signals:    make(chan os.Signal, 2),
		up:         make(chan outcome, 1),
		changes:    make(chan api.Container),
		outputs:    make(chan output, 256),
		lost:       make(chan error, 1),
		containers: map[string]*followed{},
	}
	a.expect()
	return a.run(ctx)
}

// oneShots are services that others wait for the completion of.
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
			container := service.ContainerNameOf(a.request.Stack.Name, i+1)
			a.printer.Expect(container)
			a.names = append(a.names, strings.TrimPrefix(container, a.request.Stack.Name+"-"))
		}
	}
}

func (a *attachment) run(ctx context.Context) error {
	defer a.progress.Close()
	signal.Notify(a.signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(a.signals)

	var stopStreams, cancelUp context.CancelFunc
	a.streams, stopStreams = context.WithCancel(ctx)
	defer a.others.Wait()
	defer stopStreams()
	operation, cancelUp := context.WithCancel(ctx)
	defer cancelUp()
	a.request.Containers = true
	a.others.Go(a.watch)
	go func() {
		result, err := a.d.Up(operation, a.request, a.progress.Event)
		a.up <- outcome{result, err}
	}()

	for {
		select {
		case o := <-a.up:
			a.up = nil
			if o.err != nil {
				a.settleAll(lastWords) // what a failed container said
				return o.err
			}
			for _, c := range o.result.Containers {
				a.changed(c)
			}
			if a.watching != nil {
				a.watching.attach(a.d)
				a.others.Go(a.followFiles)
			}
		case c := <-a.changes:
			a.changed(c)
		case out := <-a.outputs:
			a.printed(out)
		case err := <-a.lost:
			return err
		case <-a.signals:
			cancelUp()
			return a.interrupt(ctx)
		}
		if a.aborted != nil {
			cancelUp()
			return a.abort(ctx, *a.aborted)
		}
		if a.up == nil && a.watching == nil && a.allGone() {
			return nil
		}
	}
}

// watch tells of changes until the streams end; if it ends before, the daemon is gone.
func (a *attachment) watch() {
	err := a.d.Watch(a.streams, a.request.Stack.Name, func(c api.Container) error {
		select {
		case a.changes <- c:
			return nil
		case <-a.streams.Done():
			return a.streams.Err()
		}
	})
	if a.streams.Err() == nil && err != nil {
		a.lost <- err
	}
}

// followFiles watches the files until the streams end.
func (a *attachment) followFiles() {
	if err := a.watching.run(a.streams); err != nil && a.streams.Err() == nil {
		select {
		case a.lost <- err:
		case <-a.streams.Done():
		}
	}
}

// exited is called once for each exit, when all that the container printed has been shown.
func (a *attachment) exited(c api.Container) {
	if a.shows(c) {
		a.show(api.LogEntry{Container: c.Name, Service: c.Service, Event: "exit", ExitCode: c.ExitCode})
	}
	ends := a.f.abortOnExit || a.f.abortOnFailure && c.ExitCode != 0
	if c.ExitCode == 0 && a.oneShot[c.Service] {
		ends = false
	}
	if ends && a.aborted == nil {
		a.aborted = &c.ExitCode
	}
}

func (a *attachment) shows(c api.Container) bool {
	return slices.Contains(a.attach, c.Service) && !c.OneOff
}

// show prints an entry; the first one ends the live display.
func (a *attachment) show(e api.LogEntry) {
	a.announce.Do(func() {
		a.progress.Close()
		fmt.Fprintf(a.c.err, "Attaching to %s\n", strings.Join(a.names, ", "))
	})
	a.printer.Print(e)
}

// allGone tells whether no container that is shown runs any more, nor will by its restart policy.
func (a *attachment) allGone() bool {
	for _, f := range a.containers {
		if a.shows(f.Container) && (f.following || f.State != planner.Exited && f.State != "removed") {
			return false
		}
	}
	return true
}

// abort stops everything after one container's exit; the code is that container's, or that of --exit-code-from's service.
func (a *attachment) abort(ctx context.Context, code int) error {
	a.progress.Close()
	fmt.Fprintln(a.c.err, "Aborting on container exit...")
	if err := a.stop(ctx); err != nil {
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
func (a *attachment) interrupt(ctx context.Context) error {
	a.progress.Close()
	fmt.Fprintln(a.c.err, "Gracefully stopping... (press Ctrl+C again to force)")
	if err := a.stop(ctx); err != nil {
		return err
	}
	return exit(interrupted)
}

// stop stops what up started, and kills it at the next signal. Output is shown meanwhile.
func (a *attachment) stop(ctx context.Context) error {
	if a.up != nil {
		<-a.up // it was cancelled, and must not start more behind our back
	}
	stopping, cancel := context.WithCancel(ctx)
	defer cancel()
	done := a.op(stopping, "stop")
	killed := false
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			// The end of a container's output may be here before word of its exit: look, rather than hope to hear of it.
			containers, err := a.d.Containers(ctx, a.request.Stack.Name)
			if err != nil {
				return err
			}
			for _, c := range containers {
				a.changed(c)
			}
			a.settleAll(lastWords)
			return nil
		case c := <-a.changes:
			a.changed(c)
		case out := <-a.outputs:
			a.printed(out)
		case <-a.signals:
			if !killed {
				killed = true
				cancel()
				<-done
				done = a.op(ctx, "kill")
			}
		}
	}
}

// op runs an operation on what up started. Its progress is lines among the containers' lines, never a live display.
func (a *attachment) op(ctx context.Context, verb string) <-chan error {
	if mode := ui.Mode(a.c.progressMode); mode == ui.Auto || mode == ui.TTY {
		a.c.progressMode = string(ui.Plain)
	}
	progress := a.c.progress(verb)
	done := make(chan error, 1)
	go func() {
		request := api.OpRequest{Stack: a.request.Stack, Services: a.request.Options.Services, Timeout: a.request.Options.Timeout}
		_, err := a.d.Op(ctx, verb, a.request.Stack.Name, request, progress.Event)
		progress.Close()
		done <- err
	}()
	return done
}
