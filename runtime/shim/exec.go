package shim

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// Exec is a process started beside a container's first one.
type Exec struct {
	// PID in the host's namespace.
	PID int
	// TTY is the terminal's master side when one was asked for; the caller's to close.
	TTY *os.File

	client *Client
	ref    ExecRef
}

// Exec runs one more process in a container. Without a terminal it gets stdin, stdout and stderr (nil is /dev/null),
// which stay the caller's; with one, the result has its master side. It returns when the program has been executed;
// errors.Is(err, ErrNoCommand) or ErrNotExec tell that it could not be.
func (c *Client) Exec(ctx context.Context, r ExecRequest, stdio [3]*os.File) (*Exec, error) {
	var files []*os.File
	if !r.TTY && r.Hook == "" {
		for i, f := range stdio {
			if f == nil {
				null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
				if err != nil {
					return nil, err
				}
				defer null.Close()
				f = null
			}
			stdio[i] = f
		}
		files = stdio[:]
	}
	var reply ExecReply
	got, err := c.callFiles(ctx, OpExec, r, &reply, files...)
	if err != nil {
		return nil, err
	}
	e := &Exec{PID: reply.PID, client: c, ref: ExecRef{ID: r.ID, ExecID: r.ExecID}}
	if r.TTY {
		if len(got) != 1 {
			closeAll(got)
			return nil, fmt.Errorf("exec: reply without its terminal: %w", ErrInternal)
		}
		e.TTY = got[0]
	}
	return e, nil
}

// Attached finds an exec that an earlier connection started, so as to wait for it.
func (c *Client) Attached(id, execID string) *Exec {
	return &Exec{client: c, ref: ExecRef{ID: id, ExecID: execID}}
}

// Wait returns the exit code when the process has ended: 128+signal when killed by one. The shim keeps the code until
// it has been asked for once.
func (e *Exec) Wait(ctx context.Context) (int, error) {
	var exit ExecExit
	err := e.client.call(ctx, OpExecWait, e.ref, &exit)
	return exit.ExitCode, err
}

// Signal sends sig to the process.
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error {
	ref := e.ref
	ref.Signal = int(sig)
	return e.client.call(ctx, OpExecSignal, ref, nil)
}

// Resize sets the size of the process's terminal.
func (e *Exec) Resize(ctx context.Context, rows, cols uint16) error {
	return e.client.call(ctx, OpResize, ResizeRequest{ID: e.ref.ID, ExecID: e.ref.ExecID, Rows: rows, Cols: cols}, nil)
}
