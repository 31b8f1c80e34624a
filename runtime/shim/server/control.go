package server

import (
	"fmt"
	"os"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

func (c *container) paused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Status == shim.Paused
}

// runOf returns the container's run, or why there is none.
func (s *Server) runOf(id string) (*container, *run, error) {
	c, err := s.find(id)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.running()
	return c, r, err
}

func (s *Server) pause(id string) error  { return s.freeze(id, true) }
func (s *Server) resume(id string) error { return s.freeze(id, false) }

// freeze pauses or resumes; what is so already is a success.
func (s *Server) freeze(id string, frozen bool) error {
	c, r, err := s.runOf(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.paused() == frozen {
		return nil
	}
	to, status, kind := cgroups.Thawed, shim.Running, shim.KindResume
	if frozen {
		to, status, kind = cgroups.Frozen, shim.Paused, shim.KindPause
	}
	if err := r.cgroup.Freeze(to); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != r {
		return shimError(shim.CodeConflict, "container %s has ended", id)
	}
	c.state.Status = status
	c.publish(kind)
	return nil
}

// resize sets the size of the container's terminal, or of an exec's.
func (s *Server) resize(v shim.ResizeRequest) error {
	var master *os.File
	if v.ExecID != "" {
		r, e, err := s.findExec(shim.ExecRef{ID: v.ID, ExecID: v.ExecID})
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		master = e.master
	} else {
		_, r, err := s.runOf(v.ID)
		if err != nil {
			return err
		}
		master = r.io.master
	}
	if master == nil {
		return shimError(shim.CodeConflict, "%s has no terminal", v.ID)
	}
	return setSize(master, v.Rows, v.Cols)
}

// attachStdin gives the client the container's standard input.
func (q *request) attachStdin() (any, []*os.File, error) {
	v, err := decode[shim.Ref](q)
	if err != nil {
		return nil, nil, err
	}
	_, r, err := q.server.runOf(v.ID)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.io.stdin
	if r.io.master != nil {
		f = r.io.master
	}
	if f == nil {
		return nil, nil, shimError(shim.CodeConflict, "the standard input of %s is not open", v.ID)
	}
	forClient, err := duplicate(f)
	if err != nil {
		return nil, nil, err
	}
	if r.io.once && r.io.stdin != nil {
		r.io.stdin.Close() // the client's is the last writer
		r.io.stdin = nil
	}
	return nil, []*os.File{forClient}, nil
}

func (s *Server) closeStdin(id string) error {
	_, r, err := s.runOf(id)
	if err != nil {
		return err
	}
	r.closeStdin()
	return nil
}

func (r *run) closeStdin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.io.stdin != nil {
		_ = r.io.stdin.Close()
		r.io.stdin = nil
	}
}

// attachOutput copies the container's output to the client's two files from now on.
func (q *request) attachOutput(id string) error {
	_, r, err := q.server.runOf(id)
	if err != nil {
		return err
	}
	files, err := q.take(2)
	if err != nil {
		return err
	}
	r.out.attach(files[0], files[1])
	return nil
}

// duplicate opens the same file once more, for a client.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	copied := -1
	var failed error
	if err := raw.Control(func(fd uintptr) { copied, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", failed)
	}
	return os.NewFile(uintptr(copied), f.Name()), nil
}
