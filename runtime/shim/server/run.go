package server

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// engine runs processes in a container: libcontainer in this process, or an OCI runtime program.
type engine interface {
	pid() int
	// reap collects the first process, which has ended.
	reap() (syscall.WaitStatus, error)
	// signal sends a signal to the first process.
	signal(sig syscall.Signal) error
	// exec starts one more process; io is its terminal or its files.
	exec(p *specs.Process, io *stdio) (child, error)
	// destroy removes what the engine keeps about the container, its cgroup included. All its processes have ended.
	destroy() error
}

// child is a process started by exec.
type child interface {
	pid() int
	reap() (syscall.WaitStatus, error)
}

// run is one life of a container, from start to exit.
type run struct {
	*process
	c       *container
	engine  engine
	started time.Time
	bundle  string
	rootfs  string
	spec    specs.Process // what exec starts from
	maps    *idMaps       // of its user namespace; nil: the host's ids
	cgroup  cgroups.Manager
	out     *output
	io      *stdio

	sharedPIDs  bool // the first process's end leaves others behind
	keepMounted bool
	mounted     bool
	named       bool
	recorded    bool
	done        chan struct{} // closed when the exit has been told

	mu    sync.Mutex
	execs map[string]*execution

	probeMu sync.Mutex
	probe   *prepared // the last probe, which is the next one, too
	over    bool      // there is no next one
}

// drainPatience is how long the output of a container that has ended may be held open by strangers.
const drainPatience = 2 * time.Second

// watch waits for the end, takes everything back and tells the exit.
func (r *run) watch() {
	s, c := r.c.server, r.c
	r.process.wait()
	status, err := r.engine.reap()
	s.children.remove(r.pid)
	finished := time.Now()
	state := shim.State{ID: c.id, Status: shim.Exited, Started: r.started, Finished: finished, ExitCode: exitCode(status)}
	if err != nil {
		state.ExitCode, state.Error = 255, "exit code unknown: "+err.Error()
	}
	kills, err := r.cgroup.OOMKillCount()
	state.OOM = err == nil && kills > 0
	// A process namespace's first process is safe from signals inside of it.
	state.Killed = status.Signaled() && status.Signal() == syscall.SIGKILL && !state.OOM && !r.sharedPIDs
	if r.sharedPIDs {
		killCgroup(r.cgroup)
	}
	r.out.drain(drainPatience)
	r.closeStdin()
	r.forgetProbe()
	r.takeBack()

	c.mu.Lock()
	state.Netns = fdPath(c.net)
	c.run, c.last, c.state = nil, nil, state
	if r.waitedFor() {
		c.last = r
	}
	c.publish(shim.KindExit)
	if state.OOM {
		s.publish(shim.KindOOM, state)
	}
	c.mu.Unlock()
	if err := s.forget(c.id); err != nil {
		logf("%v", err)
	}
	r.process.close()
	r.endExecs()
	close(r.done)
}

// ending tells whether the first process has ended, or is on its way: it has no files any more.
func (r *run) ending() bool {
	_, err := os.Readlink("/proc/" + strconv.Itoa(r.pid) + "/root")
	return err != nil || r.ended()
}

// waitedFor tells whether there are execs whose exit code someone may still ask for.
func (r *run) waitedFor() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.execs) > 0
}

// takeBack removes what the run had in the kernel. Failures are logged: the record stays with the next shim only if this
// one dies, and nothing else could be done about them now.
func (r *run) takeBack() {
	s, id := r.c.server, r.c.id
	if r.named {
		s.names.Stop(id)
		if err := s.names.Withdraw(id); err != nil {
			logf("%s: %v", id, err)
		}
		r.named = false
	}
	if r.engine != nil {
		if err := r.engine.destroy(); err != nil {
			logf("%s: %v", id, err)
		}
	}
	if r.mounted {
		if err := unmountRootfs(r.rootfs); err != nil {
			logf("%s: %v", id, err)
		}
		r.mounted = false
	}
}

// undo takes back a start that failed half-way.
func (r *run) undo() {
	s := r.c.server
	if r.engine != nil {
		killCgroup(r.cgroup)
		_ = r.engine.signal(syscall.SIGKILL)
		_, _ = r.engine.reap()
		s.children.remove(r.engine.pid())
	}
	if r.process != nil {
		r.process.close()
	}
	if r.io != nil {
		r.io.closeAll()
	}
	if r.out.log != nil {
		r.out.drain(drainPatience)
	}
	r.takeBack()
	if r.recorded {
		if err := s.forget(r.c.id); err != nil {
			logf("%v", err)
		}
	}
}

// kill ends all processes, paused or not.
func (r *run) kill() {
	if err := r.process.signal(syscall.SIGKILL); err != nil {
		logf("%s: %v", r.c.id, err)
	}
	if r.sharedPIDs {
		killCgroup(r.cgroup)
	}
	r.c.mu.Lock()
	paused := r.c.state.Status == shim.Paused
	r.c.mu.Unlock()
	if paused {
		_ = r.cgroup.Freeze(cgroups.Thawed) // a frozen process of cgroup v1 dies only then
	}
}

// killCgroup kills until no process is left in the cgroup or below it. A cgroup that is not there has none.
func killCgroup(m cgroups.Manager) {
	if path := m.Path(""); cgroups.IsCgroup2UnifiedMode() && path != "" {
		if err := cgroups.WriteFile(path, "cgroup.kill", "1"); err == nil || errors.Is(err, os.ErrNotExist) && !m.Exists() {
			return
		}
	}
	for range 100 { // against one that forks faster than it is killed
		pids, err := m.GetAllPids()
		if err != nil || len(pids) == 0 {
			return
		}
		_ = m.Freeze(cgroups.Frozen)
		if frozen, err := m.GetAllPids(); err == nil {
			pids = frozen
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = m.Freeze(cgroups.Thawed)
		time.Sleep(time.Millisecond)
	}
}

// signal sends a signal to a container.
func (s *Server) signal(v shim.SignalRequest) error {
	c, err := s.find(v.ID)
	if err != nil {
		return err
	}
	r, err := c.running()
	if err != nil {
		return err
	}
	sig := syscall.Signal(v.Signal)
	if sig < 0 || sig > 64 {
		return shimError(shim.CodeInvalid, "there is no signal %d", v.Signal)
	}
	switch {
	case sig == syscall.SIGKILL:
		r.kill() // of all: without their first process none goes on
		return nil
	case !v.All:
		return r.engine.signal(sig)
	}
	pids, err := r.cgroup.GetAllPids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return os.NewSyscallError("kill", err)
		}
	}
	return nil
}
