package server

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/stack-run/stack/runtime/shim"
)

// container is what the shim keeps under one id: a sandbox, and at most one run at a time.
type container struct {
	id     string
	server *Server
	op     sync.Mutex // held by one operation that changes the container at a time; taken before mu

	mu       sync.Mutex
	state    shim.State
	bundle   string
	run      *run // nil unless a process runs
	last     *run // the run before, for exit codes of execs not yet asked for
	net      *os.File
	user     *os.File
	maps     idMaps // of the user namespace
	held     []held // port reservations
	released bool
}

// current returns the run, nil when nothing runs.
func (c *container) current() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

// running returns the run, or ErrConflict.
func (c *container) running() (*run, error) {
	if r := c.current(); r != nil {
		return r, nil
	}
	return nil, shimError(shim.CodeConflict, "container %s is not running", c.id)
}

// publish keeps and tells the state; mu is held.
func (c *container) publish(kind string) {
	if c.bundle != "" {
		if err := writeJSON(filepath.Join(c.bundle, "state.json"), c.state); err != nil && !errors.Is(err, os.ErrNotExist) {
			logf("%s: state.json: %v", c.id, err) // the daemon learns it from the event
		}
	}
	c.server.publish(kind, c.state)
}

func (s *Server) states() []shim.State {
	s.mu.Lock()
	all := s.list()
	s.mu.Unlock()
	states := make([]shim.State, 0, len(all))
	for _, c := range all {
		c.mu.Lock()
		if !c.released {
			states = append(states, c.state)
		}
		c.mu.Unlock()
	}
	return states
}

// release forgets a container that doesn't run, with all it holds.
func (s *Server) release(id string) error {
	c, err := s.find(id)
	if errors.Is(err, shim.ErrNotFound) {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.current() != nil {
		return shimError(shim.CodeConflict, "container %s is running", id)
	}
	if s.names != nil {
		s.names.Stop(id)
	}
	if err := s.forget(id); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	release(c.held)
	closeFiles([]*os.File{c.net, c.user})
	c.held, c.net, c.user = nil, nil, nil
	if !c.released {
		c.released = true
		s.mu.Lock()
		delete(s.containers, id)
		s.mu.Unlock()
		s.publish(shim.KindReleased, c.state)
	}
	return nil
}
