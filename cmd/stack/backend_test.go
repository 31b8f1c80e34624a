package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/server"
	"github.com/stack-run/stack/planner"
)

// recorder stands in for the daemon behind a real server on a real socket: it notes what it is asked for and answers what
// the test gave it.
type recorder struct {
	mu    sync.Mutex
	calls []string

	containers []api.Container
	health     []api.ContainerHealth
	stacks     []api.StackSummary
	images     []api.Image
	volumes    []api.Volume
	networks   []api.Network
	plan       planner.Plan
	basis      *planner.Basis
	revisions  []api.Revision
	status     api.StackStatus
	detail     api.RevisionDetail
	diff       api.DiffReply
	jobs       []api.Job
	jobRuns    []api.JobRun // what the waits for a run return, one after the other
	up         func(ctx context.Context, send func(api.Event)) (api.Result, error)
	op         func(ctx context.Context, op string) error
	watch      func(ctx context.Context, send func(api.Container)) error
	logs       func(ctx context.Context, q api.LogRequest, send func(api.LogEntry) error) error
	session    func() (server.Session, error)
	failure    error
}

// note records a call and what is not zero in its request.
func (r *recorder) note(call string, request any) {
	if request != nil {
		text, err := json.Marshal(request)
		var fields map[string]any
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err == nil {
			text, err = json.Marshal(telling(fields))
		}
		if err != nil {
			panic(err)
		}
		call += " " + string(text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

// telling drops what says nothing: null, false, empty texts and lists.
func telling(fields map[string]any) map[string]any {
	maps.DeleteFunc(fields, func(_ string, value any) bool {
		switch v := value.(type) {
		case map[string]any:
			return len(telling(v)) == 0
		case []any:
			return len(v) == 0
		case string:
			return v == ""
		case bool:
			return !v
		}
		return value == nil
	})
	return fields
}

func (r *recorder) noted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, "\n")
}

func (r *recorder) Info(context.Context) api.DaemonInfo {
	return api.DaemonInfo{Version: version, PID: 1 << 30}
}
func (r *recorder) Shutdown(context.Context) error {
	r.note("shutdown", nil)
	return nil
}
func (r *recorder) Stacks(context.Context) ([]api.StackSummary, error) { return r.stacks, r.failure }
func (r *recorder) Containers(_ context.Context, stack string) ([]api.Container, error) {
	return r.containers, r.failure
}
func (r *recorder) Health(_ context.Context, stack string, services []string) ([]api.ContainerHealth, error) {
	r.note("health "+stack+" "+strings.Join(services, " "), nil)
	return r.health, r.failure
}
func (r *recorder) Watch(ctx context.Context, _ string, send func(api.Container)) error {
	if r.watch == nil {
		<-ctx.Done()
		return nil
	}
	return r.watch(ctx, send)
}
func (r *recorder) Plan(_ context.Context, q api.UpRequest) (api.Proposal, error) {
	r.note("plan "+q.Stack.Name, q.Options)
	return api.Proposal{Plan: r.plan, Basis: r.basis}, r.failure
}
func (r *recorder) Up(ctx context.Context, q api.UpRequest, send func(api.Event)) (api.Result, error) {
	name := q.Stack.Name
	q.Stack = nil
	r.note("up "+name, q)
	if r.up != nil {
		result, err := r.up(ctx, send)
		if !q.Containers {
			result.Containers = nil
		}
		return result, err
	}
	return api.Result{}, r.failure
}
func (r *recorder) Op(ctx context.Context, op, stack string, q api.OpRequest, _ func(api.Event)) (api.Result, error) {
	file := "no file"
	if q.Stack != nil {
		file = "file"
	}
	q.Stack = nil
	r.note(op+" "+stack+" "+file, q)
	if r.op != nil {
		return api.Result{}, r.op(ctx, op)
	}
	return api.Result{}, r.failure
}
func (r *recorder) PlanOp(_ context.Context, op, stack string, q api.OpRequest) (planner.Plan, error) {
	q.Stack = nil
	r.note("plan "+op+" "+stack, q)
	return r.plan, r.failure
}
func (r *recorder) Pull(_ context.Context, q api.PullRequest, _ func(api.Event)) (api.Result, error) {
	q.Stack = nil
	r.note("pull", q)
	return api.Result{}, r.failure
}
func (r *recorder) Run(_ context.Context, q api.RunRequest, _ func(api.Event)) (api.Result, error) {
	q.Stack = nil
	r.note("run", q)
	return api.Result{Container: "c0ffee"}, r.failure
}
func (r *recorder) Logs(ctx context.Context, stack string, q api.LogRequest, send func(api.LogEntry) error) error {
	if r.logs != nil {
		return r.logs(ctx, q, send)
	}
	r.note("logs "+stack, q)
	return r.failure
}
func (r *recorder) Exec(_ context.Context, stack string, q api.ExecRequest) (server.Session, error) {
	r.note("exec "+stack, q)
	return r.open()
}
func (r *recorder) Attach(_ context.Context, stack, container string, input bool) (server.Session, error) {
	r.note(fmt.Sprintf("attach %s %s %t", stack, container, input), nil)
	return r.open()
}
func (r *recorder) open() (server.Session, error) {
	if r.session == nil {
		return said("", 0), r.failure
	}
	return r.session()
}
func (r *recorder) WaitContainer(context.Context, string, string) (int, error) { return 0, r.failure }
func (r *recorder) Signal(_ context.Context, stack, container, signal string) error {
	r.note("signal "+stack+" "+container+" "+signal, nil)
	return r.failure
}
func (r *recorder) RemoveContainer(_ context.Context, stack, container string, force, volumes bool) error {
	r.note(fmt.Sprintf("rm %s %s %t %t", stack, container, force, volumes), nil)
	return &api.Error{Code: api.NotFound, Message: "the daemon was faster"}
}
func (r *recorder) Place(_ context.Context, stack string, q api.PlaceRequest, _ string) (api.PlaceResult, error) {
	r.note("place "+stack, q)
	return api.PlaceResult{}, r.failure
}

func (r *recorder) Images(context.Context) ([]api.Image, error) { return r.images, r.failure }
func (r *recorder) Image(_ context.Context, ref string) (any, error) {
	return map[string]string{"ref": ref}, r.failure
}
func (r *recorder) PullImage(_ context.Context, ref, platform string, _ func(api.Event)) (api.Result, error) {
	r.note("image pull "+ref+" "+platform, nil)
	return api.Result{}, r.failure
}
func (r *recorder) LoadImage(_ context.Context, archive io.Reader, name string, _ func(api.Event)) ([]string, error) {
	text, err := io.ReadAll(archive)
	r.note("image load "+string(text)+" "+name, nil)
	return []string{"loaded:1"}, err
}
func (r *recorder) RemoveImage(_ context.Context, ref string, force bool) ([]string, error) {
	r.note(fmt.Sprintf("image rm %s %t", ref, force), nil)
	return []string{"Untagged: " + ref}, r.failure
}
func (r *recorder) Volumes(context.Context) ([]api.Volume, error) { return r.volumes, r.failure }
func (r *recorder) RemoveVolume(_ context.Context, name string) error {
	r.note("volume rm "+name, nil)
	return r.failure
}
func (r *recorder) PruneVolumes(_ context.Context, all bool) ([]string, error) {
	r.note(fmt.Sprintf("volume prune %t", all), nil)
	return []string{"old"}, r.failure
}
func (r *recorder) Networks(context.Context) ([]api.Network, error) { return r.networks, r.failure }
func (r *recorder) RemoveNetwork(_ context.Context, name string) error {
	r.note("network rm "+name, nil)
	return r.failure
}
func (r *recorder) PruneNetworks(context.Context) ([]string, error) {
	r.note("network prune", nil)
	return nil, r.failure
}

func (r *recorder) Status(_ context.Context, stack string) (api.StackStatus, error) {
	r.note("status "+stack, nil)
	return r.status, r.failure
}
func (r *recorder) WatchStatus(_ context.Context, stack string, send func(api.StackStatus) error) error {
	r.note("status -w "+stack, nil)
	return errors.Join(send(r.status), r.failure)
}
func (r *recorder) Suspend(_ context.Context, stack string, suspended bool) error {
	r.note(fmt.Sprintf("suspend %s %t", stack, suspended), nil)
	return r.failure
}

// ended is a session whose command has printed and exited.
type ended struct {
	out, err io.Reader
	code     int
}

func said(text string, code int) *ended {
	return &ended{out: strings.NewReader(text), err: strings.NewReader(""), code: code}
}
func (e *ended) Stdin() io.WriteCloser             { return nil }
func (e *ended) Stdout() io.Reader                 { return e.out }
func (e *ended) Stderr() io.Reader                 { return e.err }
func (e *ended) Resize(uint16, uint16) error       { return nil }
func (e *ended) Wait(context.Context) (int, error) { return e.code, nil }
func (e *ended) Close() error                      { return nil }

// result is how a command line ended.
type result struct {
	out, err string
	code     int
}

// sandbox is a folder with a stack file, and a daemon of its own.
type sandbox struct {
	t   *testing.T
	dir string
}

const demo = `name: demo
services:
  web:
    image: nginx:alpine
    depends_on: [db]
  db:
    image: postgres:16
  extra:
    image: busybox
    profiles: [extra]
volumes:
  data: {}
`

// newSandbox makes one the current directory, serves backend, and clears what the environment says to Compose.
func newSandbox(t *testing.T, backend server.Backend, file string) *sandbox {
	t.Helper()
	dir := t.TempDir()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "COMPOSE_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("STACK_ROOT", filepath.Join(dir, "root"))
	t.Setenv("STACK_RUN", filepath.Join(dir, "run"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("TZ", "UTC")
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(work)
	if file != "" {
		if err := os.WriteFile("compose.yaml", []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if backend != nil {
		serve(t, backend, client.Socket(filepath.Join(dir, "run")))
	}
	return &sandbox{t: t, dir: dir}
}

func serve(t *testing.T, backend server.Backend, socket string) {
	t.Helper()
	var l net.Listener
	l, err := server.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.New(backend, server.Options{Logf: t.Logf}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func (s *sandbox) stack(args ...string) result { return s.stackWithInput("", args...) }

func (s *sandbox) stackWithInput(input string, args ...string) result {
	s.t.Helper()
	var out, errOut lockedBuffer
	code := run(s.t.Context(), args, strings.NewReader(input), &out, &errOut)
	return result{out: out.String(), err: errOut.String(), code: code}
}

// lockedBuffer is written by the several streams of an attached command.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
