package server

import (
	"encoding/json"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// connection is one client: the daemon, or a test.
type connection struct {
	server *Server
	wire   *wire.Conn
	gone   chan struct{} // closed when the client is
	watch  sync.Once
}

// serve answers one client until it goes. Each request has its own goroutine, so that a long one holds up no other.
func (s *Server) serve(sock *net.UnixConn) {
	c := &connection{server: s, wire: wire.New(sock), gone: make(chan struct{})}
	defer func() {
		close(c.gone)
		_ = c.wire.Close()
	}()
	for {
		f, files, err := c.wire.Read()
		if err != nil {
			return
		}
		go c.answer(f, files)
	}
}

// answer carries one request out and replies. Files that came with it are closed unless the operation took them.
func (c *connection) answer(f wire.Frame, files []*os.File) {
	r := &request{connection: c, frame: f, files: files}
	reply, send, err := r.do()
	for _, file := range r.files {
		_ = file.Close()
	}
	out := wire.Frame{ID: f.ID}
	if err == nil && reply != nil {
		out.Body, err = json.Marshal(reply)
	}
	if err != nil {
		out.Code, out.Error = string(classify(err)), err.Error()
	}
	_ = c.wire.Write(out, send...) // a client that is gone needs no reply
	for _, file := range send {
		_ = file.Close()
	}
	if r.after != nil && err == nil {
		r.after()
	}
}

// request is one frame being answered.
type request struct {
	*connection
	frame wire.Frame
	files []*os.File // not yet taken
	after func()     // runs when the reply has been sent
}

// take hands the next n files over to the operation.
func (r *request) take(n int) ([]*os.File, error) {
	if n < 0 || len(r.files) < n {
		return nil, shimError(shim.CodeInvalid, "%s: %d files came, %d are needed", r.frame.Op, len(r.files), n)
	}
	taken := r.files[:n:n]
	r.files = r.files[n:]
	return taken, nil
}

func decode[T any](r *request) (T, error) {
	var v T
	if err := json.Unmarshal(r.frame.Body, &v); err != nil {
		return v, shimError(shim.CodeInvalid, "%s: %v", r.frame.Op, err)
	}
	return v, nil
}

// with decodes the request's body and runs one operation on it.
func with[T any](r *request, op func(T) (any, error)) (any, []*os.File, error) {
	v, err := decode[T](r)
	if err != nil {
		return nil, nil, err
	}
	reply, err := op(v)
	return reply, nil, err
}

// do finds the operation. Files it returns are sent and then closed.
func (r *request) do() (any, []*os.File, error) {
	s := r.server
	switch r.frame.Op {
	case shim.OpHello:
		return shim.Hello{Version: shim.Version, PID: os.Getpid()}, nil, nil
	case shim.OpSandbox:
		return with(r, func(v shim.SandboxRequest) (any, error) { return s.sandbox(v) })
	case shim.OpStart:
		return with(r, func(v shim.StartRequest) (any, error) { return r.start(v) })
	case shim.OpSignal:
		return with(r, func(v shim.SignalRequest) (any, error) { return nil, s.signal(v) })
	case shim.OpRelease:
		return with(r, func(v shim.Ref) (any, error) { return nil, s.release(v.ID) })
	case shim.OpList:
		return s.states(), nil, nil
	case shim.OpWatch:
		r.after = func() { r.watch.Do(r.startWatch) }
		return nil, nil, nil
	case shim.OpExec:
		return r.exec()
	case shim.OpExecWait:
		return with(r, func(v shim.ExecRef) (any, error) { return s.execWait(v, r.gone) })
	case shim.OpExecSignal:
		return with(r, func(v shim.ExecRef) (any, error) { return nil, s.execSignal(v, syscall.Signal(v.Signal)) })
	case shim.OpProbe:
		return with(r, func(v shim.ProbeRequest) (any, error) { return s.probe(v) })
	case shim.OpResize:
		return with(r, func(v shim.ResizeRequest) (any, error) { return nil, s.resize(v) })
	case shim.OpAttachStdin:
		return r.attachStdin()
	case shim.OpCloseStdin:
		return with(r, func(v shim.Ref) (any, error) { return nil, s.closeStdin(v.ID) })
	case shim.OpAttachOutput:
		return with(r, func(v shim.Ref) (any, error) { return nil, r.attachOutput(v.ID) })
	case shim.OpPause:
		return with(r, func(v shim.Ref) (any, error) { return nil, s.pause(v.ID) })
	case shim.OpResume:
		return with(r, func(v shim.Ref) (any, error) { return nil, s.resume(v.ID) })
	case shim.OpUpdate:
		return with(r, func(v shim.UpdateRequest) (any, error) { return nil, s.update(v) })
	case shim.OpLog:
		return with(r, func(v shim.LogRequest) (any, error) { return nil, s.adjustLog(v) })
	case shim.OpNetwork:
		return with(r, func(v shim.NetworkRequest) (any, error) { return nil, r.network(v) })
	case shim.OpStats:
		return with(r, func(v shim.Ref) (any, error) { return s.stats(v.ID) })
	case shim.OpTop:
		return with(r, func(v shim.Ref) (any, error) { return s.top(v.ID) })
	case shim.OpShutdown:
		return with(r, func(v shim.ShutdownRequest) (any, error) {
			r.after = s.end
			return nil, s.shutdown(v.Kill)
		})
	}
	return nil, nil, shimError(shim.CodeInvalid, "this shim knows no request %q", r.frame.Op)
}
