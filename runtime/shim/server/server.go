// Package server is the shim's side of the protocol: it starts containers, keeps what belongs to them, and tells what
// becomes of them.
//
// Who owns what: a container owns its sandbox (namespaces, as open files), its held files and its names until it is
// released; a run of it owns its process, cgroup, runtime state, output pipes and, for the moment of the start, the
// root filesystem's mount. Each is recorded below the shim's folder before it is made, so that the next shim finds it
// when this one is killed.
package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/runtime/shim"
)

// Names serves names inside containers.
type Names interface {
	// Serve answers in the network namespace at netns from now on.
	Serve(id, netns string, c dns.Config) error
	// Stop ends what Serve began.
	Stop(id string)
	// Withdraw takes the container's own names away from others.
	Withdraw(id string) error
}

// Options of a shim.
type Options struct {
	Dir   string // of the socket and of all records
	Names Names  // nil: no names
}

// Server is one running shim.
type Server struct {
	dir      string
	names    Names
	listener *net.UnixListener
	lock     *os.File
	starts   chan struct{} // bounds starts and execs at work at the same time
	children reaper
	busy     chan struct{}
	stop     chan struct{}
	stopOnce sync.Once

	noFast   atomic.Bool // this kernel can't start probes the cheap way
	sealOnce sync.Once
	seal     *os.File
	sealErr  error

	mu         sync.Mutex
	containers map[string]*container
	watchers   map[*watcher]struct{}
	parents    map[string]struct{} // cgroups above the containers
	closing    bool
}

// New takes the folder over: it ends what an earlier shim left running, and listens. ErrConflict tells that another
// shim is at work there.
func New(o Options) (_ *Server, err error) {
	s := &Server{
		dir: o.Dir, names: o.Names, stop: make(chan struct{}), busy: make(chan struct{}, 1),
		starts:     make(chan struct{}, 2*runtime.GOMAXPROCS(0)),
		containers: map[string]*container{}, watchers: map[*watcher]struct{}{}, parents: map[string]struct{}{},
	}
	for _, dir := range []string{s.dir, s.recordDir(), s.libcontainerDir(), s.programDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("shim: %w", err)
		}
	}
	if s.lock, err = lock(filepath.Join(s.dir, "lock"), 10*time.Second); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := s.loadParents(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	socket := filepath.Join(s.dir, shim.SocketName)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("shim: %w", err)
	}
	if s.listener, err = listen(socket); err != nil {
		return nil, err
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(s.dir, shim.PIDName), []byte(pid), 0o600); err != nil {
		s.listener.Close()
		return nil, fmt.Errorf("shim: %w", err)
	}
	return s, nil
}

func (s *Server) recordDir() string       { return filepath.Join(s.dir, "containers") }
func (s *Server) libcontainerDir() string { return filepath.Join(s.dir, "libcontainer") }
func (s *Server) programDir() string      { return filepath.Join(s.dir, "oci") }

// lock takes the folder's lock, waiting for a shim that is about to end.
func lock(path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-done:
	case <-time.After(patience):
		err = shim.ErrConflict // f stays open below the blocked call; the process ends
		return nil, fmt.Errorf("another shim runs in %s: %w", filepath.Dir(path), err)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shim: lock: %w", err)
	}
	return f, nil
}

// listen makes a socket for root alone; its folder is that already. Long paths, which a socket address can't hold, are
// reached through the folder's descriptor.
func listen(path string) (*net.UnixListener, error) {
	address := path
	if len(path) > 100 {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, fmt.Errorf("shim: %w", err)
		}
		defer dir.Close()
		address = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("shim: %w", err)
	}
	return l, nil
}

// Serve answers until Shutdown is asked for.
func (s *Server) Serve() error {
	defer s.children.stop()
	go s.memory()
	for {
		c, err := s.listener.AcceptUnix()
		if err != nil {
			select {
			case <-s.stop:
				return s.cleanup()
			default:
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				time.Sleep(100 * time.Millisecond) // descriptors come back when a client goes
				continue
			}
			return fmt.Errorf("shim: accept: %w", err)
		}
		go s.serve(c)
	}
}

// shutdown refuses new work and, when allowed or nothing runs, ends Serve.
func (s *Server) shutdown(kill bool) error {
	s.mu.Lock()
	s.closing = true
	list := s.list()
	s.mu.Unlock()
	for _, c := range list {
		c.op.Lock() // a start at work ends first
		if r := c.current(); r != nil {
			if !kill {
				c.op.Unlock()
				s.mu.Lock()
				s.closing = false
				s.mu.Unlock()
				return shimError(shim.CodeConflict, "container %s is running", c.id)
			}
			r.kill()
			<-r.done
		}
		c.op.Unlock()
	}
	for _, c := range list {
		if err := s.release(c.id); err != nil {
			return err
		}
	}
	return nil
}

// end closes the listener, and with it Serve; the reply to the last request has been sent.
func (s *Server) end() {
	s.stopOnce.Do(func() {
		close(s.stop)
		s.listener.Close()
	})
}

// cleanup removes what a shim with no containers has left: its folder's files, but the log.
func (s *Server) cleanup() error {
	if err := s.removeParents(); err != nil {
		return fmt.Errorf("shim: %w", err)
	}
	for _, name := range []string{shim.SocketName, shim.PIDName, "containers", "libcontainer", "oci", filepath.Base(s.parentsPath())} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("shim: %w", err)
		}
	}
	return s.lock.Close()
}

// list returns the containers; s.mu is held.
func (s *Server) list() []*container {
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	return all
}

// find returns a container the shim knows.
func (s *Server) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, shimError(shim.CodeNotFound, "no container %s", id)
}

// findOrAdd returns the container with this id, new when there is none.
func (s *Server) findOrAdd(id string) (*container, error) {
	if !validID(id) {
		return nil, shimError(shim.CodeInvalid, "%q is no container id", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, shimError(shim.CodeConflict, "the shim is ending")
	}
	c := s.containers[id]
	if c == nil {
		c = &container{id: id, server: s, state: shim.State{ID: id, Status: shim.Sandboxed}}
		s.containers[id] = c
	}
	return c, nil
}

// validID accepts what can be a file name and an id of libcontainer.
func validID(id string) bool {
	if id == "" || id[0] == '.' || len(id) > 128 {
		return false
	}
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
		default:
			return false
		}
	}
	return true
}
