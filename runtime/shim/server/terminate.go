package server

import (
	"sync"
	"syscall"
	"time"
)

// Terminate stops every container and then the shim, as when the host goes down: each container is asked to end, and killed when
// it has not after grace. Serve returns afterwards.
func (s *Server) Terminate(grace time.Duration) error {
	s.mu.Lock()
	s.closing = true
	all := s.list()
	s.mu.Unlock()
	var waiting sync.WaitGroup
	for _, c := range all {
		r := c.current()
		if r == nil {
			continue
		}
		waiting.Go(func() {
			if err := r.engine.signal(syscall.SIGTERM); err != nil {
				logf("%s: %v", c.id, err)
			}
			select {
			case <-r.done:
			case <-time.After(grace):
			}
		})
	}
	waiting.Wait()
	defer s.end()
	return s.shutdown(true)
}
