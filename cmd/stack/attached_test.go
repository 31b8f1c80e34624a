package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/server"
)

// world plays the containers of an attached up: the test says what happens to them, followers hear of it.
type world struct {
	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at each change
	containers map[string]api.Container
	lines      map[string][]api.LogEntry
	ops        chan string
}

func newWorld() *world {
	return &world{
		changed: make(chan struct{}), containers: map[string]api.Container{}, lines: map[string][]api.LogEntry{},
		ops: make(chan string, 16),
	}
}

// look calls f at first and after each change until it returns true.
func (w *world) look(ctx context.Context, f func() (done bool)) error {
	for {
		w.mu.Lock()
		done, changed := f(), w.changed
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) recorder() *recorder {
	return &recorder{
		watch: func(ctx context.Context, send func(api.Container)) error {
			last := map[string]string{}
			return w.look(ctx, func() bool {
				for id, c := range w.containers {
					if last[id] != c.State {
						last[id] = c.State
						send(c)
					}
				}
				return false
			})
		},
		logs: func(ctx context.Context, q api.LogRequest, send func(api.LogEntry) error) error {
			sent := 0
			return w.look(ctx, func() bool {
				id := q.Containers[0]
				for _, line := range w.lines[id][sent:] {
					if !line.Time.Before(q.Since) {
						send(line)
					}
					sent++
				}
				return w.containers[id].State == "exited"
			})
		},
		op: func(_ context.Context, op string) error {
			w.ops <- op
			for _, service := range []string{"web", "db", "migrate"} {
				w.exits(service, 143)
			}
			return nil
		},
	}
}

func (w *world) runs(service string) {
	w.change(func() {
		w.containers[service] = api.Container{ID: service, Name: "demo-" + service + "-1", Service: service, Replica: 1, State: "running", Started: time.Now()}
	})
}

func (w *world) says(service, line string) {
	w.change(func() {
		w.lines[service] = append(w.lines[service], api.LogEntry{Container: "demo-" + service + "-1", Service: service, Stream: "stdout", Line: line, Time: time.Now()})
	})
}

// exits ends a container that runs.
func (w *world) exits(service string, code int) {
	w.change(func() {
		if c := w.containers[service]; c.State == "running" {
			c.State, c.ExitCode, c.Finished = "exited", code, time.Now()
			w.containers[service] = c
		}
	})
}

func (w *world) result() (result api.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.containers {
		result.Containers = append(result.Containers, c)
	}
	return result
}

func TestAttachedUpEndsAsItsContainersDo(t *testing.T) {
	const oneShot = `name: demo
services:
  web: {image: nginx, depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {image: app}
`
	for situation, c := range map[string]struct {
		file, line string
		play       func(*world)
		finally    []api.Container // what Containers answers
		code       int
		out        []string
		op         string
	}{
		"all containers exit": {
			line: "up",
			play: func(w *world) {
				w.runs("web")
				w.runs("db")
				w.says("web", "hello")
				w.exits("web", 0)
				w.exits("db", 3)
			},
			out: []string{"web-1  | hello\n", "web-1  | exited with code 0\n", "db-1   | exited with code 3\n"},
		},
		"one aborts": {
			line: "up --abort-on-container-exit",
			play: func(w *world) { w.runs("web"); w.runs("db"); w.exits("db", 3) },
			code: 3, op: "stop",
		},
		"one fails": {
			line: "up --abort-on-container-failure",
			play: func(w *world) { w.runs("web"); w.exits("web", 0); w.runs("db"); w.exits("db", 4) },
			code: 4, op: "stop",
		},
		"the exit code is another's": {
			line:    "up --exit-code-from web",
			play:    func(w *world) { w.runs("web"); w.runs("db"); w.exits("db", 3) },
			finally: []api.Container{{Service: "db", ExitCode: 3}, {Service: "web", ExitCode: 143}},
			code:    143, op: "stop",
		},
		"a one-shot service completes": {
			file: oneShot,
			line: "up --abort-on-container-exit",
			play: func(w *world) { w.runs("migrate"); w.exits("migrate", 0); w.runs("web"); w.exits("web", 5) },
			code: 5, op: "stop",
		},
		"one service is shown": {
			line: "up --attach web --no-log-prefix",
			play: func(w *world) {
				w.runs("db")
				w.says("db", "secret")
				w.runs("web")
				w.says("web", "hello")
				w.exits("web", 0)
			},
			out: []string{"hello\n"},
		},
	} {
		t.Run(situation, func(t *testing.T) {
			w := newWorld()
			r := w.recorder()
			r.containers = c.finally
			file := demo
			if c.file != "" {
				file = c.file
			}
			r.up = func(context.Context, func(api.Event)) (api.Result, error) {
				c.play(w)
				return w.result(), nil
			}
			got := newSandbox(t, r, file).stack(strings.Fields(c.line)...)
			if got.code != c.code {
				t.Errorf("exit %d, want %d: %s", got.code, c.code, got.err)
			}
			for _, text := range c.out {
				if !strings.Contains(got.out, text) {
					t.Errorf("no %q in %q", text, got.out)
				}
			}
			if c.line == "up" && !strings.Contains(got.err, "Attaching to db-1, web-1\n") {
				t.Errorf("it says %q", got.err)
			}
			if strings.Contains(got.out, "secret") {
				t.Errorf("a service that is not attached shows: %q", got.out)
			}
			op := ""
			if len(w.ops) > 0 {
				op = <-w.ops
			}
			if op != c.op {
				t.Errorf("operation %q, want %q", op, c.op)
			}
		})
	}
}

func interrupt(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

func TestCtrlCStopsAndCtrlCAgainKills(t *testing.T) {
	t.Run("once", func(t *testing.T) {
		w := newWorld()
		r := w.recorder()
		r.up = func(context.Context, func(api.Event)) (api.Result, error) {
			w.runs("web")
			interrupt(t)
			return w.result(), nil
		}
		got := newSandbox(t, r, demo).stack("up", "-t", "7")
		if got.code != 130 || !strings.Contains(got.err, "Gracefully stopping") {
			t.Errorf("exit %d: %s", got.code, got.err)
		}
		if !strings.Contains(r.noted(), `stop demo file {"timeout":7000000000}`) {
			t.Errorf("asked for %s", r.noted())
		}
	})
	t.Run("once, and the exit is not told before the stop has ended", func(t *testing.T) {
		w := newWorld()
		r := w.recorder()
		watch, logs := r.watch, r.logs
		r.watch = func(ctx context.Context, send func(api.Container)) error {
			return watch(ctx, func(c api.Container) {
				if c.State == "running" {
					send(c)
				}
			})
		}
		ended := make(chan struct{})
		r.logs = func(ctx context.Context, q api.LogRequest, send func(api.LogEntry) error) error {
			interrupt(t) // now that a stream is open
			defer close(ended)
			return logs(ctx, q, send)
		}
		r.up = func(context.Context, func(api.Event)) (api.Result, error) {
			w.runs("web")
			return w.result(), nil
		}
		r.op = func(context.Context, string) error {
			w.exits("web", 3)
			<-ended
			r.containers = w.result().Containers
			return nil
		}
		got := newSandbox(t, r, demo).stack("up")
		if got.code != 130 || !strings.Contains(got.out, "web-1  | exited with code 3\n") {
			t.Errorf("exit %d, it says %q", got.code, got.out)
		}
	})
	t.Run("twice", func(t *testing.T) {
		w := newWorld()
		r := w.recorder()
		r.up = func(context.Context, func(api.Event)) (api.Result, error) {
			w.runs("web")
			interrupt(t)
			return w.result(), nil
		}
		r.op = func(ctx context.Context, op string) error {
			w.ops <- op
			if op == "stop" {
				interrupt(t)
				<-ctx.Done() // the second Ctrl-C calls the stop off
				return ctx.Err()
			}
			return nil
		}
		got := newSandbox(t, r, demo).stack("up")
		if got.code != 130 {
			t.Errorf("exit %d: %s", got.code, got.err)
		}
		if first, second := <-w.ops, <-w.ops; first != "stop" || second != "kill" {
			t.Errorf("operations %s, %s", first, second)
		}
	})
	t.Run("while the up goes on", func(t *testing.T) {
		w := newWorld()
		r := w.recorder()
		r.up = func(ctx context.Context, _ func(api.Event)) (api.Result, error) {
			interrupt(t)
			<-ctx.Done() // it is called off before anything is stopped
			return api.Result{}, ctx.Err()
		}
		got := newSandbox(t, r, demo).stack("up")
		if got.code != 130 || len(w.ops) != 1 {
			t.Errorf("exit %d, %d operations: %s", got.code, len(w.ops), got.err)
		}
	})
	t.Run("detached", func(t *testing.T) {
		r := &recorder{up: func(ctx context.Context, _ func(api.Event)) (api.Result, error) {
			interrupt(t)
			<-ctx.Done()
			return api.Result{}, ctx.Err()
		}}
		if got := newSandbox(t, r, demo).stack("up", "-d"); got.code != 130 {
			t.Errorf("exit %d: %s", got.code, got.err)
		}
	})
}

func TestExitCodesAreThoseOfTheWork(t *testing.T) {
	for situation, c := range map[string]struct {
		backend *recorder
		line    string
		code    int
		out     string
		err     string
	}{
		"exec":         {&recorder{session: func() (server.Session, error) { return said("hi\n", 42), nil }}, "exec web true", 42, "hi\n", ""},
		"run":          {&recorder{session: func() (server.Session, error) { return said("hi\n", 7), nil }}, "run web true", 7, "hi\n", ""},
		"run detached": {&recorder{}, "run -d web", 0, "c0ffee\n", ""},
		"a command that is not there": {
			&recorder{failure: &api.Error{Code: api.NotFound, Message: "no such program", ExitCode: 127}}, "exec web nothing", 127, "", "error: no such program\n",
		},
		"a failure with its logs": {
			&recorder{failure: &api.Error{Code: api.Failed, Address: "service.db[1]", Message: "it exited with 1", Remedy: "see stack logs db", Logs: []string{"disk full"}}},
			"up -d", 1, "", "error: service.db[1]: it exited with 1\n  | disk full\n  see stack logs db\n",
		},
		"an empty plan": {&recorder{}, "plan", 0, "", ""},
	} {
		t.Run(situation, func(t *testing.T) {
			got := newSandbox(t, c.backend, demo).stack(strings.Fields(c.line)...)
			if got.code != c.code || !strings.Contains(got.out, c.out) || c.err != "" && got.err != c.err {
				t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
			}
		})
	}
}
