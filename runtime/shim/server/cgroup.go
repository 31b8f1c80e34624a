package server

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shareCgroups keeps the cgroups above the containers in place while a start makes one below them: a shim that ends removes
// those that are empty, whose folders it may share with other shims.
func (s *Server) shareCgroups() (unlock func(), err error) {
	f, err := s.cgroupLock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func (s *Server) cgroupLock(how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(s.dir), ".cgroups.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}

// addParents remembers the cgroups above a container's, to be removed when the shim ends.
func (s *Server) addParents(cgroup string, paths map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parents == nil {
		s.parents = map[string]struct{}{}
	}
	for _, path := range paths {
		for range strings.Count(strings.Trim(cgroup, "/"), "/") {
			path = filepath.Dir(path)
			s.parents[path] = struct{}{}
		}
	}
}

// removeParents removes the empty cgroups that addParents has seen, the deepest first.
func (s *Server) removeParents() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.parents) == 0 {
		return nil
	}
	f, err := s.cgroupLock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer f.Close()
	for removed := true; removed; {
		removed = false
		for path := range s.parents {
			if unix.Rmdir(path) == nil {
				delete(s.parents, path)
				removed = true
			}
		}
	}
	return nil
}
