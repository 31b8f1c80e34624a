package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/server"
	"github.com/stack-run/stack/spec"
)

// backend answers with what the test put into it; what the test does not expect panics, which the server must survive.
type backend struct {
	server.Backend
	up     func(context.Context, api.UpRequest, func(api.Event)) (api.Result, error)
	logs   func(context.Context, api.LogRequest, func(api.LogEntry) error) error
	watch  func(context.Context, func(api.Container)) error
	exec   func(context.Context, api.ExecRequest) (server.Session, error)
	load   func(context.Context, io.Reader, string, func(api.Event)) ([]string, error)
	remove func(stack, container string, force, volumes bool) error
}

func (b *backend) Info(context.Context) api.DaemonInfo { return api.DaemonInfo{Version: "1.2", PID: 7} }
func (b *backend) Plan(context.Context, api.UpRequest) (api.Proposal, error) {
	return api.Proposal{}, &api.Error{Code: api.Conflict, Address: "service.web", Message: "no", Remedy: "yes"}
}
func (b *backend) Up(ctx context.Context, r api.UpRequest, send func(api.Event)) (api.Result, error) {
	return b.up(ctx, r, send)
}
func (b *backend) Logs(ctx context.Context, _ string, r api.LogRequest, send func(api.LogEntry) error) error {
	return b.logs(ctx, r, send)
}
func (b *backend) Watch(ctx context.Context, _ string, send func(api.Container)) error {
	return b.watch(ctx, send)
}
func (b *backend) Exec(ctx context.Context, _ string, r api.ExecRequest) (server.Session, error) {
	return b.exec(ctx, r)
}
func (b *backend) LoadImage(ctx context.Context, r io.Reader, name string, send func(api.Event)) ([]string, error) {
	return b.load(ctx, r, name, send)
}
func (b *backend) RemoveContainer(_ context.Context, stack, container string, force, volumes bool) error {
	return b.remove(stack, container, force, volumes)
}

// serve runs a server for the test and returns a client of it.
func serve(t *testing.T, b server.Backend, o server.Options) (*client.Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "stack.sock")
	l, err := server.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.New(b, o).Serve(ctx, l) }()
	c, err := client.Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve ends with %v", err)
		}
	})
	return c, socket
}

func TestOperationStreamsEventsAndEndsWithItsResult(t *testing.T) {
	failed := &api.Error{Code: api.Failed, Address: "service.db[1]", Message: "exited", Logs: []string{"oops"}, ExitCode: 3}
	for situation, c := range map[string]struct {
		err  error
		want error
	}{
		"success":              {nil, nil},
		"a failure":            {fmt.Errorf("up: %w", failed), failed},
		"an unclassified one":  {errors.New("disk on fire"), &api.Error{Code: api.Internal, Message: "disk on fire"}},
		"findings in a stack":  {spec.Diagnostics{{Severity: spec.Error, Summary: "bad"}}, &api.Error{Code: api.Invalid, Message: "bad"}},
		"a deadline that ends": {context.DeadlineExceeded, &api.Error{Code: api.Timeout, Message: "timed out: context deadline exceeded"}},
	} {
		t.Run(situation, func(t *testing.T) {
			var got api.UpRequest
			b := &backend{up: func(_ context.Context, r api.UpRequest, send func(api.Event)) (api.Result, error) {
				got = r
				var all sync.WaitGroup
				for i := range 20 {
					all.Go(func() { send(api.Event{Kind: "start", ID: i}) })
				}
				all.Wait()
				return api.Result{Changed: 20}, c.err
			}}
			cl, _ := serve(t, b, server.Options{})
			sent := api.UpRequest{Stack: &spec.Stack{Name: "demo"}, Wait: true, WaitTimeout: time.Minute}
			events := 0
			result, err := cl.Up(t.Context(), sent, func(e api.Event) {
				events++
				if e.Time.IsZero() {
					t.Error("an event without a time")
				}
			})
			if events != 20 || result.Changed != 20 {
				t.Errorf("%d events, result %+v", events, result)
			}
			if !reflect.DeepEqual(got, sent) {
				t.Errorf("the backend got %+v", got)
			}
			if fmt.Sprintf("%+v", err) != fmt.Sprintf("%+v", c.want) || !reflect.DeepEqual(unwrapped(err), unwrapped(c.want)) {
				t.Errorf("error %#v, want %#v", err, c.want)
			}
		})
	}
}

func unwrapped(err error) api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return *e
	}
	return api.Error{}
}

func TestErrorsArriveAsTheyLeft(t *testing.T) {
	c, _ := serve(t, &backend{}, server.Options{})
	_, err := c.Plan(t.Context(), api.UpRequest{Stack: &spec.Stack{}})
	want := api.Error{Code: api.Conflict, Address: "service.web", Message: "no", Remedy: "yes"}
	if got := unwrapped(err); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestAPanicIsOneRequestsInternalError(t *testing.T) {
	var logged bytes.Buffer
	c, _ := serve(t, &backend{}, server.Options{Logf: func(f string, a ...any) { fmt.Fprintf(&logged, f, a...) }})
	_, err := c.Up(t.Context(), api.UpRequest{Stack: &spec.Stack{}}, func(api.Event) {})
	if unwrapped(err).Code != api.Internal {
		t.Errorf("a panic while streaming gives %v", err)
	}
	if _, err := c.Volumes(t.Context()); unwrapped(err).Code != api.Internal {
		t.Errorf("a panic gives %v", err)
	}
	if !strings.Contains(logged.String(), "goroutine") {
		t.Errorf("the log has no trace: %q", logged.String())
	}
	if info, err := c.Info(t.Context()); err != nil || info.PID != 7 {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}

func TestAClientThatGoesAwayCancelsItsRequest(t *testing.T) {
	ended := make(chan string, 3)
	b := &backend{
		up: func(ctx context.Context, _ api.UpRequest, send func(api.Event)) (api.Result, error) {
			send(api.Event{Kind: "start"})
			<-ctx.Done()
			ended <- "up"
			return api.Result{}, ctx.Err()
		},
		logs: func(ctx context.Context, _ api.LogRequest, send func(api.LogEntry) error) error {
			send(api.LogEntry{Line: "x"})
			<-ctx.Done()
			ended <- "logs"
			return ctx.Err()
		},
		watch: func(ctx context.Context, send func(api.Container)) error {
			send(api.Container{Name: "x"})
			<-ctx.Done()
			ended <- "watch"
			return ctx.Err()
		},
	}
	c, _ := serve(t, b, server.Options{})
	for name, request := range map[string]func(context.Context, func()) error{
		"up": func(ctx context.Context, cancel func()) error {
			_, err := c.Up(ctx, api.UpRequest{Stack: &spec.Stack{}}, func(api.Event) { cancel() })
			return err
		},
		"logs": func(ctx context.Context, cancel func()) error {
			return c.Logs(ctx, "demo", api.LogRequest{Follow: true}, func(api.LogEntry) error { cancel(); return nil })
		},
		"watch": func(ctx context.Context, cancel func()) error {
			return c.Watch(ctx, "demo", func(api.Container) error { cancel(); return nil })
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := request(ctx, cancel); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v", name, err)
		}
		if got := <-ended; got != name {
			t.Errorf("%s ended, want %s", got, name)
		}
		cancel()
	}
}

func TestLogsArriveWholeAndInOrder(t *testing.T) {
	const many = 100_000
	broken := &api.Error{Code: api.Internal, Message: "log file torn"}
	for situation, c := range map[string]struct {
		lines int
		err   error
	}{
		"to their end":             {many, nil},
		"an error on the way":      {many, broken},
		"an error before any line": {0, broken},
		"nothing at all":           {0, nil},
	} {
		t.Run(situation, func(t *testing.T) {
			b := &backend{logs: func(_ context.Context, _ api.LogRequest, send func(api.LogEntry) error) error {
				for i := range c.lines {
					if err := send(api.LogEntry{Container: "demo-web-1", Replica: i, Line: "a line"}); err != nil {
						return err
					}
				}
				return c.err
			}}
			cl, _ := serve(t, b, server.Options{})
			next := 0
			err := cl.Logs(t.Context(), "demo", api.LogRequest{Tail: -1}, func(e api.LogEntry) error {
				if e.Replica != next {
					return fmt.Errorf("line %d where %d belongs", e.Replica, next)
				}
				next++
				return nil
			})
			if next != c.lines || unwrapped(err).Message != unwrapped(c.err).Message {
				t.Errorf("%d lines, error %v", next, err)
			}
		})
	}
}

// echo is a session whose command copies its input to its output, reports sizes on standard error, and ends with its input.
type echo struct {
	in, out, err pipe
	wait         chan int
	sizes        chan [2]uint16
}

type pipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipe() (p pipe) { p.r, p.w = io.Pipe(); return p }

func newEcho() *echo {
	e := &echo{in: newPipe(), out: newPipe(), err: newPipe(), wait: make(chan int, 1), sizes: make(chan [2]uint16, 1)}
	go func() {
		io.Copy(e.out.w, e.in.r)
		fmt.Fprintf(e.err.w, "size %v", <-e.sizes)
		e.out.w.Close()
		e.err.w.Close()
		e.wait <- 42
	}()
	return e
}

func (e *echo) Stdin() io.WriteCloser    { return e.in.w }
func (e *echo) Stdout() io.Reader        { return e.out.r }
func (e *echo) Stderr() io.Reader        { return e.err.r }
func (e *echo) Resize(r, c uint16) error { e.sizes <- [2]uint16{r, c}; return nil }
func (e *echo) Close() error             { e.in.w.Close(); return nil }
func (e *echo) Wait(ctx context.Context) (int, error) {
	select {
	case code := <-e.wait:
		return code, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestASessionCarriesItsStreamsAndItsExitCode(t *testing.T) {
	var got api.ExecRequest
	b := &backend{exec: func(_ context.Context, r api.ExecRequest) (server.Session, error) {
		got = r
		return newEcho(), nil
	}}
	c, _ := serve(t, b, server.Options{})
	s, err := c.Exec(t.Context(), "demo", api.ExecRequest{Service: "web", Args: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	input := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // longer than a frame
	go func() {
		s.Resize(24, 80)
		s.Write(input)
		s.CloseStdin()
	}()
	var stdout, stderr bytes.Buffer
	code, err := s.Copy(&stdout, &stderr)
	if code != 42 || err != nil {
		t.Errorf("exit %d, %v", code, err)
	}
	if !bytes.Equal(stdout.Bytes(), input) {
		t.Errorf("%d bytes came back, want %d", stdout.Len(), len(input))
	}
	if stderr.String() != "size [24 80]" {
		t.Errorf("stderr is %q", stderr.String())
	}
	if got.Service != "web" || len(got.Args) != 1 {
		t.Errorf("the backend got %+v", got)
	}
}

func TestASessionThatCantBeginIsAnOrdinaryError(t *testing.T) {
	b := &backend{exec: func(context.Context, api.ExecRequest) (server.Session, error) {
		return nil, &api.Error{Code: api.NotFound, Message: "no container", ExitCode: 126}
	}}
	c, _ := serve(t, b, server.Options{})
	_, err := c.Exec(t.Context(), "demo", api.ExecRequest{})
	if e := unwrapped(err); e.Code != api.NotFound || e.ExitCode != 126 {
		t.Errorf("error is %#v", err)
	}
}

func TestASessionEndsWithItsClient(t *testing.T) {
	waited := make(chan error, 1)
	b := &backend{exec: func(context.Context, api.ExecRequest) (server.Session, error) {
		return &waiting{echo: newEcho(), ended: waited}, nil
	}}
	c, _ := serve(t, b, server.Options{})
	s, err := c.Exec(t.Context(), "demo", api.ExecRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("Wait ends with %v", err)
	}
}

type waiting struct {
	*echo
	ended chan error
}

func (w *waiting) Wait(ctx context.Context) (int, error) {
	<-ctx.Done()
	w.ended <- ctx.Err()
	return 0, ctx.Err()
}

func TestAnArchiveIsReadWhileProgressIsSent(t *testing.T) {
	b := &backend{load: func(_ context.Context, r io.Reader, name string, send func(api.Event)) ([]string, error) {
		buf := make([]byte, 4)
		for {
			_, err := io.ReadFull(r, buf)
			if err != nil {
				return []string{name}, nil
			}
			send(api.Event{Kind: "progress", Text: string(buf)})
		}
	}}
	c, _ := serve(t, b, server.Options{})
	r, w := io.Pipe()
	answers := make(chan string)
	go func() {
		// The second part is only sent after the first one's progress came back.
		io.WriteString(w, "one.")
		<-answers
		io.WriteString(w, "two.")
		<-answers
		w.Close()
		<-answers
	}()
	var texts []string
	result, err := c.LoadImage(t.Context(), r, "x:1", func(e api.Event) {
		texts = append(texts, e.Text)
		answers <- e.Text
	})
	if err != nil || result.Changed != 1 || strings.Join(texts, " ") != "one. two. Loaded image: x:1" {
		t.Errorf("%v, %+v, %v", texts, result, err)
	}
}

func TestNamesAreEscapedInPaths(t *testing.T) {
	var got [2]string
	b := &backend{remove: func(stack, container string, force, volumes bool) error {
		got = [2]string{stack, container}
		if !force || volumes {
			t.Errorf("force %t, volumes %t", force, volumes)
		}
		return nil
	}}
	c, _ := serve(t, b, server.Options{})
	if err := c.RemoveContainer(t.Context(), "a/b c", "..%2f?x", true, false); err != nil {
		t.Fatal(err)
	}
	if got != [2]string{"a/b c", "..%2f?x"} {
		t.Errorf("the backend got %q", got)
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	_, socket := serve(t, &backend{}, server.Options{})
	plain := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	for situation, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"not JSON":                  {"POST", "/v1/up", "{", 400},
		"an unknown field":          {"POST", "/v1/up", `{"stack":{},"speed":"high"}`, 400},
		"a wrong type":              {"POST", "/v1/up", `{"stack":[]}`, 400},
		"two values":                {"POST", "/v1/up", `{"stack":{}} {}`, 400},
		"no stack":                  {"POST", "/v1/up", `{}`, 400},
		"an unknown operation":      {"POST", "/v1/stacks/x/ops/explode", `{}`, 404},
		"an unknown path":           {"GET", "/v1/nothing", "", 404},
		"an older API":              {"GET", "/v0/version", "", 404},
		"a wrong method":            {"PUT", "/v1/version", "", 405},
		"a session without upgrade": {"POST", "/v1/stacks/x/exec", `{}`, 400},
		"a flag that is no boolean": {"DELETE", "/v1/images?force=maybe", "", 400},
	} {
		t.Run(situation, func(t *testing.T) {
			req, err := http.NewRequest(c.method, "http://stack"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := plain.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			var e api.Error
			if c.status == 400 && (json.NewDecoder(resp.Body).Decode(&e) != nil || e.Code != api.Invalid || e.Message == "") {
				t.Errorf("error is %+v", e)
			}
		})
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	c, _ := serve(t, &backend{}, server.Options{Allow: func(uint32) bool { return false }})
	if _, err := c.Info(t.Context()); unwrapped(err).Code != api.Denied {
		t.Errorf("error is %v", err)
	}
}

func TestListenReplacesADeadSocketOnly(t *testing.T) {
	_, socket := serve(t, &backend{}, server.Options{})
	if _, err := server.Listen(socket); !errors.Is(err, server.ErrInUse) {
		t.Errorf("a second daemon: error is %v", err)
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := server.Listen(dead)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
