package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

// afterExit is how long more output is waited for once the command has ended: a process it left behind may hold the
// pipes open for ever.
const afterExit = time.Second

// session opens a session and carries it over the upgraded connection until the command has ended or the client is gone.
func (s *Server) session(w http.ResponseWriter, r *http.Request, open func(context.Context) (Session, error)) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), api.Upgrade) {
		return &api.Error{Code: api.Invalid, Message: fmt.Sprintf("this request needs the header Upgrade: %s", api.Upgrade)}
	}
	s.sessions.Add(1)
	defer s.sessions.Done()

	// The session outlives the request's context, which ends for good when the connection is taken over.
	ctx, cancel := context.WithCancel(s.base)
	defer cancel()
	release := context.AfterFunc(r.Context(), cancel)
	session, err := open(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	if !release() {
		return r.Context().Err()
	}

	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	conn.SetDeadline(time.Time{})
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", api.Upgrade)
	if buffered.Flush() != nil {
		return nil // the client is gone; there is no reply to make any more
	}

	carrier := &carrier{conn: conn, session: session}
	err = s.guard(r.URL.Path, func() error { return carrier.run(ctx, cancel, buffered.Reader) })
	if err != nil {
		carrier.exit(api.SessionExit{Code: 1, Error: api.AsError(err)})
	}
	return nil
}

// carrier moves a session's streams over one connection.
type carrier struct {
	conn    net.Conn
	session Session
	mu      sync.Mutex   // one frame at a time
	sent    atomic.Int64 // bytes of output
}

func (c *carrier) run(ctx context.Context, cancel context.CancelFunc, in *bufio.Reader) error {
	go func() {
		defer cancel() // the client is gone, or speaks nonsense
		c.receive(in)
	}()

	var outputs sync.WaitGroup
	outputs.Go(func() { c.forward(api.FrameStdout, c.session.Stdout()) })
	if stderr := c.session.Stderr(); stderr != nil {
		outputs.Go(func() { c.forward(api.FrameStderr, stderr) })
	}
	code, err := c.session.Wait(ctx)
	if err != nil {
		return err
	}
	drained := make(chan struct{})
	go func() {
		outputs.Wait()
		close(drained)
	}()
	c.awaitOutput(drained)
	c.exit(api.SessionExit{Code: code})
	return nil
}

// awaitOutput returns when all output was sent, or none has come for afterExit.
func (c *carrier) awaitOutput(drained <-chan struct{}) {
	for sent := c.sent.Load(); ; {
		select {
		case <-drained:
			return
		case <-time.After(afterExit):
		}
		now := c.sent.Load()
		if now == sent {
			return
		}
		sent = now
	}
}

// forward sends what a stream gives until it ends.
func (c *carrier) forward(t api.FrameType, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && c.send(t, buf[:n]) != nil {
			return
		}
		c.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// receive obeys the client's frames until the connection ends.
func (c *carrier) receive(in io.Reader) {
	stdin := c.session.Stdin()
	defer func() {
		if stdin != nil {
			stdin.Close()
		}
	}()
	var buf []byte
	for {
		t, payload, err := api.ReadFrame(in, buf)
		if err != nil {
			return
		}
		buf = payload[:cap(payload)]
		switch t {
		case api.FrameStdin:
			if stdin == nil {
				continue
			}
			if _, err := stdin.Write(payload); err != nil {
				stdin.Close() // the command reads no more; what follows is dropped
				stdin = nil
			}
		case api.FrameCloseStdin:
			if stdin != nil {
				stdin.Close()
				stdin = nil
			}
		case api.FrameResize:
			rows, cols, err := api.ParseResize(payload)
			if err != nil {
				return
			}
			c.session.Resize(rows, cols) // fails when the command has just ended
		default:
			return
		}
	}
}

func (c *carrier) send(t api.FrameType, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return api.WriteFrame(c.conn, t, payload)
}

func (c *carrier) exit(exit api.SessionExit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	api.WriteExit(c.conn, exit)
}
