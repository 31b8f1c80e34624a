package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Options of a Server.
type Options struct {
	// Logf records panics and failures that no client hears of. It may be nil.
	Logf func(format string, args ...any)
	// Allow tells whether a user may connect; nil allows root and the daemon's own user.
	Allow func(uid uint32) bool
	// GitOps answers what is about repositories; nil leaves those routes out.
	GitOps GitOps
	// Metrics answers GET /metrics; nil leaves it out.
	Metrics http.Handler
}

// Server answers API requests with what its Backend does.
type Server struct {
	backend  Backend
	logf     func(format string, args ...any)
	allow    func(uid uint32) bool
	handler  http.Handler
	base     context.Context // ends when the server stops; sessions live by it
	stop     context.CancelFunc
	sessions sync.WaitGroup
	silent   silent
}

// New makes a Server that is ready to Serve.
func New(backend Backend, o Options) *Server {
	s := &Server{backend: backend, logf: o.Logf, allow: o.Allow}
	if s.logf == nil {
		s.logf = func(string, ...any) {}
	}
	if s.allow == nil {
		own := uint32(os.Geteuid())
		s.allow = func(uid uint32) bool { return uid == 0 || uid == own }
	}
	s.base, s.stop = context.WithCancel(context.Background())
	s.handler = s.onlyAllowed(s.routes(o))
	return s
}

// Listen makes the daemon's socket, for its own user alone, replacing one that nobody listens on any more.
// An error that wraps ErrInUse means that another daemon serves it.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Whoever connects before this is refused by the check of peer credentials.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ErrInUse means that a daemon listens on the socket already.
var ErrInUse = errors.New("a daemon is listening already")

// drain is how long a stopping server lets running requests end after their contexts ended.
const drain = 10 * time.Second

// Serve answers on l until ctx ends, then cancels what runs, waits for it, and returns nil. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer s.stop()
	h := &http.Server{
		Handler:        s.handler,
		BaseContext:    func(net.Listener) context.Context { return s.base },
		ConnContext:    withPeer,
		ConnState:      s.silent.note,
		MaxHeaderBytes: 64 << 10,
	}
	stopped := make(chan error, 1)
	release := context.AfterFunc(ctx, func() {
		s.stop()
		s.silent.close()
		limit, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		err := h.Shutdown(limit)
		s.sessions.Wait()
		stopped <- err
	})
	err := h.Serve(l)
	if release() { // ctx still runs: the listener itself failed
		s.stop()
		return errors.Join(err, h.Close())
	}
	if err := <-stopped; err != nil {
		return errors.Join(fmt.Errorf("requests still running after %s: %w", drain, err), h.Close())
	}
	return nil
}

// guard turns a panic of f into an error, so that one request's bug doesn't end the daemon.
func (s *Server) guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logf("panic in %s: %v\n%s", what, p, debug.Stack())
			err = &api.Error{
				Code:    api.Internal,
				Message: fmt.Sprintf("internal error in %s: %v", what, p),
				Remedy:  "this is a bug of stack; the daemon's log has the details",
			}
		}
	}()
	return f()
}

// silent are the connections that have not asked for anything yet: a stopping server need not wait for them, as
// http.Server does for five seconds.
type silent struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (s *silent) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.conns, conn)
		return
	}
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	s.conns[conn] = true
}

func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}
