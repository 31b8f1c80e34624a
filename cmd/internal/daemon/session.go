package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/server"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/shim"
)

// session is a command, or a container's first process, with its streams.
type session struct {
	stdin          io.WriteCloser
	stdout, stderr *os.File
	resize         func(rows, cols uint16) error
	wait           func(context.Context) (int, error)
	once           sync.Once
}

func (s *session) Stdin() io.WriteCloser {
	if s.stdin == nil {
		return nil
	}
	return s.stdin
}

func (s *session) Stdout() io.Reader { return s.stdout }

func (s *session) Stderr() io.Reader {
	if s.stderr == nil {
		return nil
	}
	return s.stderr
}

func (s *session) Resize(rows, cols uint16) error                     { return s.resize(rows, cols) }
func (s *session) Wait(ctx context.Context) (exitCode int, err error) { return s.wait(ctx) }

func (s *session) Close() (err error) {
	s.once.Do(func() {
		if s.stdin != nil {
			err = s.stdin.Close()
		}
		if s.stderr != nil {
			err = errors.Join(err, s.stderr.Close())
		}
		if io.Closer(s.stdout) != s.stdin {
			err = errors.Join(err, s.stdout.Close())
		}
	})
	return err
}

// pipes are up to three pipes between a session and a process; ours are the session's ends.
type pipes struct {
	ours, theirs [3]*os.File
}

// make makes the pipe of a descriptor that a container's process gets.
func (p *pipes) make(fd int) (err error) {
	p.ours[fd], p.theirs[fd], err = runtime.Pipe(fd == 0)
	return err
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func (b *backend) Exec(ctx context.Context, stack string, req api.ExecRequest) (server.Session, error) {
	v, err := b.find(stack, req.Service, req.Index, req.Container)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var p pipes
	if !req.TTY && !req.Detach {
		for fd := range 3 {
			if fd == 0 && !req.Interactive {
				continue
			}
			if err := p.make(fd); err != nil {
				closeAll(append(p.ours[:], p.theirs[:]...)...)
				return nil, err
			}
		}
	}
	x, err := b.engine.Exec(ctx, shim.ExecRequest{
		ID: v.ID, Args: req.Args, Env: req.Env, Cwd: req.Cwd, User: req.User, TTY: req.TTY, Privileged: req.Privileged,
		Rows: req.Rows, Cols: req.Cols,
	}, p.theirs)
	closeAll(p.theirs[:]...)
	if err != nil {
		closeAll(p.ours[:]...)
		return nil, b.execFailure(ctx, err)
	}
	s := &session{wait: x.Wait, resize: func(rows, cols uint16) error { return x.Resize(ctx, rows, cols) }}
	switch {
	case req.TTY:
		s.stdout, s.stdin = x.TTY, x.TTY
	case req.Detach:
		if s.stdout, err = os.Open(os.DevNull); err != nil {
			return nil, err
		}
	default:
		s.stdout, s.stderr = p.ours[1], p.ours[2]
		if p.ours[0] != nil {
			s.stdin = p.ours[0]
		}
	}
	return s, nil
}

// execFailure gives the exit codes that shells use for commands that could not be executed.
func (b *backend) execFailure(ctx context.Context, err error) *api.Error {
	e := b.failure(ctx, err)
	switch {
	case errors.Is(err, shim.ErrNoCommand):
		e.ExitCode = 127
	case errors.Is(err, shim.ErrNotExec):
		e.ExitCode = 126
	}
	return e
}

// Attach connects to a container's first process. One that `run` made and nobody started yet is started, so that nothing
// it prints is missed.
func (b *backend) Attach(ctx context.Context, _, container string, input bool) (server.Session, error) {
	v, err := b.reconciler.Find(container)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	wait, err := b.engine.Waiter(v.ID)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var p pipes
	for fd := 1; fd < 3; fd++ {
		if fd == 2 && v.Spec.TTY {
			p.theirs[2] = p.theirs[1] // a terminal has one stream
			break
		}
		if p.ours[fd], p.theirs[fd], err = os.Pipe(); err != nil { // the shim writes to it
			closeAll(append(p.ours[:], p.theirs[:]...)...)
			return nil, err
		}
	}
	starts := v.OneOff && v.Intent == runtime.IntentNone
	if starts {
		err = b.reconciler.Start(ctx, v.ID, p.theirs[1], p.theirs[2])
	} else {
		err = b.engine.AttachOutput(ctx, v.ID, p.theirs[1], p.theirs[2])
	}
	closeAll(p.theirs[:]...)
	if err != nil {
		closeAll(p.ours[:]...)
		if starts {
			err = b.withUndo(ctx, err, v, v.AutoRemove)
		}
		return nil, b.execFailure(ctx, err)
	}
	s := &session{
		stdout: p.ours[1], stderr: p.ours[2],
		resize: func(rows, cols uint16) error { return b.engine.Resize(ctx, v.ID, rows, cols) },
		wait:   wait,
	}
	if !input {
		return s, nil
	}
	stdin, err := b.engine.AttachStdin(ctx, v.ID)
	if err != nil && !runtime.IsGone(err) {
		s.Close()
		return nil, b.failure(ctx, err)
	}
	if err == nil {
		s.stdin = &containerInput{File: stdin, eof: func() error { return b.engine.CloseStdin(context.WithoutCancel(ctx), v.ID) }, tty: v.Spec.TTY}
	}
	return s, nil
}

// containerInput is the standard input of a container's first process: closing it ends the input for the process too.
type containerInput struct {
	*os.File
	eof func() error
	tty bool
}

func (c *containerInput) Close() error {
	err := c.File.Close()
	if c.tty || errors.Is(err, os.ErrClosed) {
		return err
	}
	if eof := c.eof(); eof != nil && !runtime.IsGone(eof) {
		err = errors.Join(err, eof)
	}
	return err
}
