package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/stack-run/stack/cmd/internal/client"
)

// converse connects this process's streams with a session until the command in it ends, and returns its exit code. With
// a terminal, ours passes every key on, and its size.
func (c *cli) converse(session *client.Session, input, tty bool) (int, error) {
	defer session.Close()
	if tty {
		restore, err := c.rawTerminal()
		if err != nil {
			return 0, err
		}
		defer restore()
		defer c.followSize(session)()
	}
	if input {
		go func() {
			io.Copy(session, c.in)
			session.CloseStdin()
		}()
	} else {
		session.CloseStdin()
	}
	return session.Copy(c.out, c.err)
}

// rawTerminal makes the terminal pass on every key and returns what puts it back.
func (c *cli) rawTerminal() (restore func(), err error) {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, fmt.Errorf("the input is not a terminal; use -T")
	}
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { term.Restore(int(f.Fd()), state) }, nil
}

// followSize tells the session how large the terminal is, now and at each change, until the returned function is called.
func (c *cli) followSize(session *client.Session) (stop func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	done := make(chan struct{})
	tell := func() {
		if cols, rows := c.terminalSize(); cols > 0 {
			session.Resize(rows, cols) // fails when the session has just ended
		}
	}
	tell()
	go func() {
		for {
			select {
			case <-changes:
				tell()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changes)
		close(done)
	}
}

// terminalSize is the terminal's size in characters; 0 where there is none.
func (c *cli) terminalSize() (cols, rows uint16) {
	for _, stream := range []any{c.out, c.in} {
		if f, ok := stream.(*os.File); ok {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil {
				return uint16(width), uint16(height)
			}
		}
	}
	return 0, 0
}
