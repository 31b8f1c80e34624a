package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// Exec runs one more process in a running container with the given standard input, output and error; nil ones are
// /dev/null. With a terminal they are not used: Exec.TTY is the terminal's master side.
func (e *Engine) Exec(ctx context.Context, req shim.ExecRequest, stdio [3]*os.File) (*shim.Exec, error) {
	s, v, err := e.running(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	if req.ExecID == "" {
		req.ExecID = NewID()[:16]
	}
	x, err := s.client.Exec(ctx, req, stdio)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", v.Name, err)
	}
	return x, nil
}

// outputLimit is how much of a probe's output is kept, in bytes.
const outputLimit = 4096

// ErrTooLong is a probe that took longer than it may.
var ErrTooLong = errors.New("it took longer than its timeout")

// Probe runs a command in a container and returns its exit code and the first bytes of what it printed. What takes longer
// than timeout is killed, whole, by the shim: also when this process is gone by then.
func (e *Engine) Probe(ctx context.Context, id string, args []string, timeout time.Duration) (code int, output string, err error) {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return 0, "", err
	}
	reply, err := s.client.Probe(ctx, shim.ProbeRequest{ID: id, Args: args, Timeout: timeout, Limit: outputLimit})
	switch {
	case errors.Is(err, shim.ErrInvalid): // by a shim that an older Stack has started and that knows no probes, too
		return e.execProbe(ctx, id, args, timeout)
	case err != nil:
		return 0, "", fmt.Errorf("probe of container %s: %w", v.Name, err)
	case reply.TimedOut:
		return reply.ExitCode, reply.Output, fmt.Errorf("%w of %s", ErrTooLong, timeout)
	}
	return reply.ExitCode, reply.Output, nil
}

// execProbe is a probe as an exec.
func (e *Engine) execProbe(ctx context.Context, id string, args []string, timeout time.Duration) (code int, output string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w of %s", ErrTooLong, timeout))
	defer cancel()
	r, w, err := Pipe(false)
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	x, err := e.Exec(ctx, shim.ExecRequest{ID: id, Args: args}, [3]*os.File{nil, w, w})
	w.Close()
	if err != nil {
		return 0, "", err
	}
	read := make(chan string, 1)
	go func() {
		first, _ := io.ReadAll(io.LimitReader(r, outputLimit))
		_, _ = io.Copy(io.Discard, r) // a command that prints more must not block; the deadline ends it
		read <- string(first)
	}()
	code, err = x.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = x.Signal(kill, syscall.SIGKILL) // it may have ended just now
		_, _ = x.Wait(kill)
	}
	// Children of the command may hold the pipe open: take what is there, don't wait for its end.
	_ = r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	return code, <-read, err
}

// AttachStdin connects to the standard input (or the terminal) of a container's first process.
func (e *Engine) AttachStdin(ctx context.Context, id string) (*os.File, error) {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return nil, err
	}
	f, err := s.client.AttachStdin(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", v.Name, err)
	}
	return f, nil
}

// CloseStdin ends the standard input of a container's first process.
func (e *Engine) CloseStdin(ctx context.Context, id string) error {
	s, _, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	return s.client.CloseStdin(ctx, id)
}

// AttachOutput copies what a container's first process writes from now on to the given files, beside its log.
func (e *Engine) AttachOutput(ctx context.Context, id string, stdout, stderr *os.File) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	if err := s.client.AttachOutput(ctx, id, stdout, stderr); err != nil {
		return fmt.Errorf("attach to container %s: %w", v.Name, err)
	}
	return nil
}

// Resize sets the size of the terminal of a container's first process.
func (e *Engine) Resize(ctx context.Context, id string, rows, cols uint16) error {
	s, _, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	return s.client.Resize(ctx, id, rows, cols)
}

// IsGone tells that an operation failed because the container or process had ended.
func IsGone(err error) bool {
	return errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNotFound) || gone(err)
}
