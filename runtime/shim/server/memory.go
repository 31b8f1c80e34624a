package server

import (
	"runtime/debug"
	"time"
)

// memory gives back to the kernel what a burst of starts has taken: a shim idles for weeks after a busy second.
func (s *Server) memory() {
	const quiet = 2 * time.Second
	var timer <-chan time.Time
	for {
		select {
		case <-s.busy:
			timer = time.After(quiet) // again from the last one on
		case <-timer:
			timer = nil
			debug.FreeOSMemory()
		case <-s.stop:
			return
		}
	}
}

// worked notes that memory was used.
func (s *Server) worked() {
	select {
	case s.busy <- struct{}{}:
	default:
	}
}
