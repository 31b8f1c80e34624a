package server

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// probing is a probe's command at work.
type probing interface {
	// wait returns the exit code, or false when the deadline comes first.
	wait(deadline time.Time) (code int, ended bool)
	// kill ends the command and what it has started.
	kill()
	// leave lets somebody else collect the command, when it ends.
	leave()
}

// probe runs a command in a container as exec does, and takes its output and its end. Health checks do that thousands of
// times an hour: where that is possible it is done without Go's runtime and libcontainer in the new process (start).
func (s *Server) probe(v shim.ProbeRequest) (shim.ProbeReply, error) {
	c, r, err := s.runOf(v.ID)
	if err != nil {
		return shim.ProbeReply{}, err
	}
	if c.paused() {
		return shim.ProbeReply{}, shimError(shim.CodeConflict, "container %s is paused", v.ID)
	}
	if len(v.Args) == 0 || v.Timeout <= 0 {
		return shim.ProbeReply{}, shimError(shim.CodeInvalid, "probe: args and timeout are needed")
	}
	ours, theirs, err := pipe(false)
	if err != nil {
		return shim.ProbeReply{}, err
	}
	defer ours.Close()
	deadline := time.Now().Add(v.Timeout)
	p, err := r.startProbe(v.Args, theirs)
	theirs.Close()
	if err != nil {
		return shim.ProbeReply{}, err
	}
	read := make(chan string, 1)
	go func() {
		first, _ := io.ReadAll(io.LimitReader(ours, int64(v.Limit)))
		_, _ = io.Copy(io.Discard, ours) // a command that prints more must not block; the deadline ends it
		read <- string(first)
	}()
	var reply shim.ProbeReply
	code, ended := p.wait(deadline)
	if !ended {
		reply.TimedOut = true
		p.kill()
		if code, ended = p.wait(time.Now().Add(killPatience)); !ended {
			p.leave() // of a container that was paused just now: it dies when that goes on
		}
	}
	reply.ExitCode = code
	// Children of the command may hold the pipe open: take what is there, don't wait for its end.
	_ = ours.SetReadDeadline(time.Now().Add(outputPatience))
	reply.Output = <-read
	return reply, nil
}

const (
	killPatience   = 2 * time.Second
	outputPatience = 50 * time.Millisecond
)

// startProbe starts a probe's command with its output on out, which stays the caller's.
func (r *run) startProbe(args []string, out *os.File) (probing, error) {
	p, err := r.startFast(args, out)
	var refused *shim.Error
	if err == nil || errors.As(err, &refused) {
		return p, err
	}
	return r.startExec(args, out)
}

// execProbe is a probe run as any exec.
type execProbe struct {
	r *run
	e *execution
}

var probes atomic.Uint64 // numbers the probes that are run as exec

func (r *run) startExec(args []string, out *os.File) (probing, error) {
	std := &stdio{}
	var err error
	if std.child[0], err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	for i := 1; i <= 2 && err == nil; i++ {
		std.child[i], err = duplicate(out)
	}
	id := "probe-" + strconv.FormatUint(probes.Add(1), 10)
	var e *execution
	if err == nil {
		e, err = r.exec(shim.ExecRequest{ID: r.c.id, ExecID: id, Args: args}, std)
	}
	if err != nil {
		std.closeAll()
		return nil, err
	}
	return execProbe{r, e}, nil
}

func (p execProbe) wait(deadline time.Time) (int, bool) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-p.e.done:
	case <-timer.C:
		return 0, false
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	delete(p.r.execs, p.e.id)
	return p.e.code, true
}

func (p execProbe) kill() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	delete(p.r.execs, p.e.id) // nobody will ask for its code
	select {
	case <-p.e.done:
	default:
		killSession(p.e.p.pid)
	}
}

// leave has nothing to do: whoever watches an exec collects it.
func (p execProbe) leave() {}

// killSession kills a process, which leads a session and has not been reaped, and everything it has started, as far as
// that did not leave both the session and its parent.
func killSession(pid int) {
	for _, child := range descendants(pid, 0) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	_ = syscall.Kill(pid, syscall.SIGKILL) // an OCI runtime may have given it no session
}

// descendants of a process, the nearest first.
func descendants(pid, depth int) (all []int) {
	const deepest = 32
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil || depth > deepest {
		return nil
	}
	for _, t := range tasks {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + t.Name() + "/children")
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(word)
			if err == nil {
				all = append(append(all, child), descendants(child, depth+1)...)
			}
		}
	}
	return all
}
