package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

func (s *Server) parentsPath() string { return filepath.Join(s.dir, "cgroups.json") }

// addParents remembers the cgroups above a container's, to be removed when the shim ends, or the one after it if this one is
// killed. All containers of a stack have the same: they are written down once.
func (s *Server) addParents(cgroup string, paths map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.parents)
	for _, path := range paths {
		for range strings.Count(strings.Trim(cgroup, "/"), "/") {
			path = filepath.Dir(path)
			s.parents[path] = struct{}{}
		}
	}
	if len(s.parents) == before {
		return nil
	}
	if err := writeJSON(s.parentsPath(), slices.Sorted(maps.Keys(s.parents))); err != nil {
		return fmt.Errorf("record of cgroups: %w", err)
	}
	return nil
}

// loadParents reads what an earlier shim has written down.
func (s *Server) loadParents() error {
	data, err := os.ReadFile(s.parentsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shim: %w", err)
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("shim: %s: %w", s.parentsPath(), err)
	}
	for _, path := range list {
		s.parents[path] = struct{}{}
	}
	return nil
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
