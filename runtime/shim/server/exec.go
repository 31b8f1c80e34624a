package server

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/capability"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// execution is one more process of a container. Its exit code is kept until someone has asked for it.
type execution struct {
	id     string
	p      *process // nil while starting
	master *os.File // of its terminal
	done   chan struct{}
	code   int
}

// exec starts a process beside the container's first one.
func (q *request) exec() (any, []*os.File, error) {
	v, err := decode[shim.ExecRequest](q)
	if err != nil {
		return nil, nil, err
	}
	c, err := q.server.find(v.ID)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.running()
	if err != nil {
		return nil, nil, err
	}
	if c.paused() {
		return nil, nil, shimError(shim.CodeConflict, "container %s is paused", v.ID)
	}
	if len(v.Args) == 0 || v.ExecID == "" {
		return nil, nil, shimError(shim.CodeInvalid, "exec: args and exec_id are needed")
	}
	std := &stdio{}
	switch {
	case v.TTY:
		std, err = openConsole()
	case v.Hook != "":
		std, err = openPipes(false)
	default:
		var files []*os.File
		if files, err = q.take(3); err == nil {
			std.child = [3]*os.File(files)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	e, err := r.exec(v, std)
	if err != nil {
		std.closeAll()
		return nil, nil, err
	}
	if !v.TTY {
		return shim.ExecReply{PID: e.p.pid}, nil, nil
	}
	forClient, err := duplicate(std.master)
	if err != nil {
		_ = e.p.signal(syscall.SIGKILL)
		return nil, nil, err
	}
	return shim.ExecReply{PID: e.p.pid}, []*os.File{forClient}, nil
}

// exec starts the process and remembers it.
func (r *run) exec(v shim.ExecRequest, std *stdio) (_ *execution, err error) {
	s := r.c.server
	p, err := r.execProcess(v)
	if err == nil {
		err = r.maps.give(std.child)
	}
	if err != nil {
		return nil, err
	}
	e := &execution{id: v.ExecID, done: make(chan struct{})}
	r.mu.Lock()
	_, taken := r.execs[e.id]
	if !taken {
		r.execs[e.id] = e
	}
	r.mu.Unlock()
	if taken {
		return nil, shimError(shim.CodeConflict, "exec %s exists", e.id)
	}
	defer func() {
		if err != nil {
			r.mu.Lock()
			delete(r.execs, e.id)
			r.mu.Unlock()
		}
	}()

	s.starts <- struct{}{}
	defer func() {
		<-s.starts
		s.worked()
	}()
	s.children.forking()
	defer s.children.forked()
	started, err := r.engine.exec(p, std)
	if err != nil {
		if err := s.children.start(); err != nil {
			logf("%s: exec: %v", r.c.id, err)
		}
		if code := findCommand(fmt.Sprintf("/proc/%d/root", r.pid), nil, p); code != "" {
			err = commandError(code, p.Args[0])
		}
		if r.ending() { // and with it its files
			err = shimError(shim.CodeConflict, "container %s has ended", r.c.id)
		}
		return nil, err
	}
	pid := started.pid()
	held, err := openProcess(pid)
	if err == nil {
		err = std.started()
	}
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = started.reap()
		return nil, err
	}
	s.children.add(pid)
	var read <-chan struct{}
	if v.Hook != "" {
		read = r.out.hook(v.Hook, std.stdout, std.stderr)
	}
	if std.master != nil && v.Rows > 0 && v.Cols > 0 {
		_ = setSize(std.master, v.Rows, v.Cols) // its first size is a courtesy
	}
	r.mu.Lock()
	e.p, e.master = held, std.master
	r.mu.Unlock()
	go r.watchExec(e, started, read)
	return e, nil
}

// watchExec waits for the end of an exec, and of a hook until its output has been read: who asks for its exit code finds it in
// the log.
func (r *run) watchExec(e *execution, started child, read <-chan struct{}) {
	e.p.wait()
	status, err := started.reap()
	if read != nil {
		select {
		case <-read:
		case <-time.After(drainPatience): // what it left running holds its output open
		}
	}
	r.c.server.children.remove(e.p.pid)
	r.mu.Lock()
	e.code = exitCode(status)
	if err != nil {
		e.code = 255
	}
	e.p.close()
	if e.master != nil {
		_ = e.master.Close() // the client has its own
		e.master = nil
	}
	r.mu.Unlock()
	close(e.done)
}

// endExecs waits for the execs, which the container's end has killed.
func (r *run) endExecs() {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.execs))
	r.mu.Unlock()
	for _, e := range all {
		if e.p != nil {
			<-e.done
		}
	}
}

// execProcess is the container's own process with the changes the request asks for.
func (r *run) execProcess(v shim.ExecRequest) (*specs.Process, error) {
	p := r.spec
	p.Args, p.Terminal, p.ConsoleSize = v.Args, v.TTY, nil
	if v.Cwd != "" {
		p.Cwd = absolute(p.Cwd, v.Cwd)
	}
	p.Env = mergeEnv(p.Env, v.Env)
	if v.TTY && !hasEnv(p.Env, "TERM") {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if v.User != "" {
		if err := r.setUser(&p, v); err != nil {
			return nil, err
		}
	}
	if v.Privileged {
		all, err := allCapabilities()
		if err != nil {
			return nil, err
		}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		p.ApparmorProfile = ""
	}
	return &p, nil
}

// setUser resolves a user as the container's own files have it, and gives it its groups, home and capabilities.
func (r *run) setUser(p *specs.Process, v shim.ExecRequest) error {
	passwd, err := r.openInside("/etc/passwd")
	if err != nil {
		return err
	}
	defer passwd.Close()
	group, err := r.openInside("/etc/group")
	if err != nil {
		return err
	}
	defer group.Close()
	u, err := user.GetExecUser(v.User, nil, passwd, group)
	if err != nil {
		return shimError(shim.CodeInvalid, "user %s: %v", v.User, err)
	}
	p.User = specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, gid := range u.Sgids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
	}
	if !hasEnv(v.Env, "HOME") {
		p.Env = mergeEnv(p.Env, []string{"HOME=" + u.Home})
	}
	if c := p.Capabilities; c != nil {
		p.Capabilities = &specs.LinuxCapabilities{Bounding: c.Bounding}
		if u.Uid == 0 { // as execve has it
			p.Capabilities.Effective, p.Capabilities.Permitted = c.Bounding, c.Bounding
		}
	}
	return nil
}

// openInside opens a file of the container; one that is missing reads as empty.
func (r *run) openInside(path string) (io.ReadCloser, error) {
	root := fmt.Sprintf("/proc/%d/root", r.pid)
	real, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(real)
	if os.IsNotExist(err) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return f, err
}

func allCapabilities() ([]string, error) {
	known, err := capability.ListSupported()
	if err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	names := make([]string, len(known))
	for i, c := range known {
		names[i] = "CAP_" + strings.ToUpper(c.String())
	}
	return names, nil
}

// mergeEnv returns base with the entries of more added or replaced; an entry without "=" removes.
func mergeEnv(base, more []string) []string {
	out := slices.Clone(base)
	for _, e := range more {
		name, _, set := strings.Cut(e, "=")
		out = slices.DeleteFunc(out, func(o string) bool { return strings.HasPrefix(o, name+"=") })
		if set {
			out = append(out, e)
		}
	}
	return out
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// findExec returns an exec of the container's present run.
func (s *Server) findExec(v shim.ExecRef) (*run, *execution, error) {
	c, err := s.find(v.ID)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	r := c.run
	if r == nil {
		r = c.last
	}
	c.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if e := r.execs[v.ExecID]; e != nil && e.p != nil {
			return r, e, nil
		}
	}
	return nil, nil, shimError(shim.CodeNotFound, "container %s has no exec %s", v.ID, v.ExecID)
}

// execWait waits for the end of an exec; who gets the code makes the shim forget it.
func (s *Server) execWait(v shim.ExecRef, gone <-chan struct{}) (shim.ExecExit, error) {
	r, e, err := s.findExec(v)
	if err != nil {
		return shim.ExecExit{}, err
	}
	select {
	case <-e.done:
	case <-gone:
		return shim.ExecExit{}, shimError(shim.CodeInternal, "the client is gone")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.execs, e.id)
	return shim.ExecExit{ExitCode: e.code}, nil
}

func (s *Server) execSignal(v shim.ExecRef, sig syscall.Signal) error {
	r, e, err := s.findExec(v)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-e.done:
		return nil
	default:
		return e.p.signal(sig)
	}
}
