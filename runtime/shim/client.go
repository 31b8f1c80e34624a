package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// Client is a connection to one shim. Its methods may be called concurrently. Each returns ErrLost when the
// connection breaks, and an *Error that errors.Is matches to a sentinel when the shim refuses.
type Client struct {
	conn   *wire.Conn
	hello  Hello
	closed chan struct{}

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan answer
	events  *queue // after Watch
}

type answer struct {
	frame wire.Frame
	files []*os.File
}

// Dial connects to the shim that listens on socket. The error wraps syscall.ECONNREFUSED or fs.ErrNotExist when none does.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	c := &Client{conn: wire.New(conn.(*net.UnixConn)), closed: make(chan struct{}), pending: map[uint64]chan answer{}}
	go c.read()
	if err := c.call(ctx, OpHello, nil, &c.hello); err != nil {
		_ = c.Close()
		return nil, err
	}
	if c.hello.Version > Version {
		_ = c.Close()
		return nil, fmt.Errorf("the shim speaks protocol %d, newer than %d: %w", c.hello.Version, Version, ErrConflict)
	}
	return c, nil
}

// PID is the shim's process id.
func (c *Client) PID() int { return c.hello.PID }

// Close ends the connection; the shim and its containers go on.
func (c *Client) Close() error { return c.conn.Close() }

// Closed is closed when the connection has ended, whoever ended it.
func (c *Client) Closed() <-chan struct{} { return c.closed }

// read hands out what the shim sends until the connection ends.
func (c *Client) read() {
	for {
		f, files, err := c.conn.Read()
		if err != nil {
			break
		}
		c.mu.Lock()
		switch {
		case f.Event != nil:
			var e Event
			if json.Unmarshal(f.Event, &e) == nil && c.events != nil {
				c.events.push(e)
			}
			closeAll(files)
		case c.pending[f.ID] != nil:
			c.pending[f.ID] <- answer{f, files} // buffered
			delete(c.pending, f.ID)
		default:
			closeAll(files) // the caller gave up
		}
		c.mu.Unlock()
	}
	_ = c.conn.Close()
	c.mu.Lock()
	for id, ch := range c.pending {
		close(ch)
		delete(c.pending, id)
	}
	c.pending = nil
	if c.events != nil {
		c.events.close()
	}
	c.mu.Unlock()
	close(c.closed)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// call sends a request and decodes its reply, which carries no files.
func (c *Client) call(ctx context.Context, op string, body, reply any, files ...*os.File) error {
	got, err := c.callFiles(ctx, op, body, reply, files...)
	closeAll(got)
	return err
}

// callFiles is call for replies that carry files, which become the caller's.
func (c *Client) callFiles(ctx context.Context, op string, body, reply any, files ...*os.File) ([]*os.File, error) {
	f := wire.Frame{Op: op}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("shim: %s: %w", op, err)
		}
		f.Body = raw
	}
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.pending == nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", op, ErrLost)
	}
	c.last++
	f.ID = c.last
	c.pending[f.ID] = ch
	c.mu.Unlock()

	if err := c.conn.Write(f, files...); err != nil {
		c.forget(f.ID, ch)
		return nil, fmt.Errorf("%s: %w: %w", op, ErrLost, err)
	}
	select {
	case a, ok := <-ch:
		return c.finish(op, a, ok, reply)
	case <-ctx.Done():
		c.forget(f.ID, ch)
		return nil, ctx.Err()
	}
}

func (c *Client) finish(op string, a answer, ok bool, reply any) ([]*os.File, error) {
	if !ok {
		return nil, fmt.Errorf("%s: %w", op, ErrLost)
	}
	if a.frame.Code != "" {
		closeAll(a.files)
		return nil, &Error{Code: Code(a.frame.Code), Message: a.frame.Error}
	}
	if reply != nil {
		if err := json.Unmarshal(a.frame.Body, reply); err != nil {
			closeAll(a.files)
			return nil, fmt.Errorf("%s: reply: %w", op, errors.Join(ErrInternal, err))
		}
	}
	return a.files, nil
}

// forget gives up on a reply; files of one that came in the meantime are closed.
func (c *Client) forget(id uint64, ch chan answer) {
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
	select {
	case a, ok := <-ch:
		if ok {
			closeAll(a.files)
		}
	default:
	}
}

// Sandbox makes the network namespace of a container, or finds the one it has.
func (c *Client) Sandbox(ctx context.Context, r SandboxRequest) (SandboxReply, error) {
	var reply SandboxReply
	err := c.call(ctx, OpSandbox, r, &reply)
	return reply, err
}

// Start starts a container. With r.Attach the first two files get a copy of its standard output and error; the rest
// are held open until Release. The files stay the caller's, to close after the call.
func (c *Client) Start(ctx context.Context, r StartRequest, files ...*os.File) (StartReply, error) {
	r.Held = len(files)
	if r.Attach {
		r.Held -= 2
	}
	var reply StartReply
	err := c.call(ctx, OpStart, r, &reply, files...)
	return reply, err
}

// Signal sends sig to the container's first process, or to all of its processes.
func (c *Client) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	return c.call(ctx, OpSignal, SignalRequest{ID: id, Signal: int(sig), All: all}, nil)
}

// Kill kills every process of the container through its cgroup, paused or not. The exit event tells when they are gone.
func (c *Client) Kill(ctx context.Context, id string) error {
	return c.Signal(ctx, id, syscall.SIGKILL, true)
}

// Release forgets a container that does not run: its namespaces, held files and names. Releasing one the shim does
// not know is no error.
func (c *Client) Release(ctx context.Context, id string) error {
	return c.call(ctx, OpRelease, Ref{ID: id}, nil)
}

// List tells the state of every container and sandbox.
func (c *Client) List(ctx context.Context) ([]State, error) {
	var states []State
	err := c.call(ctx, OpList, nil, &states)
	return states, err
}

// Watch returns the changes from now on, after one KindState event for each container there is, so that nothing is
// missed. The channel closes with the connection or ctx. A client watches once.
func (c *Client) Watch(ctx context.Context) (<-chan Event, error) {
	c.mu.Lock()
	if c.events != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("watching already: %w", ErrConflict)
	}
	q := newQueue()
	c.events = q
	c.mu.Unlock()
	if err := c.call(ctx, OpWatch, nil, nil); err != nil {
		q.close()
		return nil, err
	}
	out := make(chan Event)
	go q.drain(ctx, out)
	return out, nil
}

// Resize sets the size of the container's terminal.
func (c *Client) Resize(ctx context.Context, id string, rows, cols uint16) error {
	return c.call(ctx, OpResize, ResizeRequest{ID: id, Rows: rows, Cols: cols}, nil)
}

// AttachStdin returns the write end of the container's standard input, or its terminal for writing; ErrConflict when it was
// started without StdinOpen. The container sees end of file when it and every other writer is closed and CloseStdin was called.
func (c *Client) AttachStdin(ctx context.Context, id string) (*os.File, error) {
	files, err := c.callFiles(ctx, OpAttachStdin, Ref{ID: id}, nil)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, fmt.Errorf("attach: reply without its file: %w", ErrInternal)
	}
	return files[0], nil
}

// CloseStdin closes the shim's own end of the container's standard input.
func (c *Client) CloseStdin(ctx context.Context, id string) error {
	return c.call(ctx, OpCloseStdin, Ref{ID: id}, nil)
}

// AttachOutput sends a copy of the container's output, from now on, to the two files (which may be the same), until
// they can't be written any more. The files stay the caller's.
func (c *Client) AttachOutput(ctx context.Context, id string, stdout, stderr *os.File) error {
	return c.call(ctx, OpAttachOutput, Ref{ID: id}, nil, stdout, stderr)
}

// Pause freezes every process of the container.
func (c *Client) Pause(ctx context.Context, id string) error {
	return c.call(ctx, OpPause, Ref{ID: id}, nil)
}

// Resume lets a paused container go on.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.call(ctx, OpResume, Ref{ID: id}, nil)
}

// Update changes the limits of a running container.
func (c *Client) Update(ctx context.Context, id string, r *specs.LinuxResources) error {
	return c.call(ctx, OpUpdate, UpdateRequest{ID: id, Resources: r}, nil)
}

// Probe runs a command in a container to its end. ErrInvalid may mean that the shim is too old to know the request.
func (c *Client) Probe(ctx context.Context, r ProbeRequest) (ProbeReply, error) {
	var reply ProbeReply
	err := c.call(ctx, OpProbe, r, &reply)
	return reply, err
}

// Network changes the held files and the name service of a running container. The files stay the caller's, to close after
// the call.
func (c *Client) Network(ctx context.Context, r NetworkRequest, files ...*os.File) error {
	r.Held = len(files)
	return c.call(ctx, OpNetwork, r, nil, files...)
}

// Log changes how the log of a running container is kept.
func (c *Client) Log(ctx context.Context, id string, l Log) error {
	return c.call(ctx, OpLog, LogRequest{ID: id, Log: l}, nil)
}

// Stats reads the counters of a running container.
func (c *Client) Stats(ctx context.Context, id string) (Stats, error) {
	var s Stats
	err := c.call(ctx, OpStats, Ref{ID: id}, &s)
	return s, err
}

// Top lists the processes of a running container.
func (c *Client) Top(ctx context.Context, id string) ([]Process, error) {
	var p []Process
	err := c.call(ctx, OpTop, Ref{ID: id}, &p)
	return p, err
}

// Shutdown ends the shim; with kill, its containers first. It returns when the shim has given up its socket.
func (c *Client) Shutdown(ctx context.Context, kill bool) error {
	if err := c.call(ctx, OpShutdown, ShutdownRequest{Kill: kill}, nil); err != nil {
		return err
	}
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
