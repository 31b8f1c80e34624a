package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// lost is the error of a container whose shim was killed: it was killed too, by the next shim.
const lost = "shim lost"

// recover ends what an earlier shim has left behind and keeps its containers as exited ones. Nothing is taken over: the
// pipes and namespaces of those containers went with their shim.
func (s *Server) recover() error {
	entries, err := os.ReadDir(s.recordDir())
	if err != nil {
		return fmt.Errorf("shim: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.recordDir(), e.Name())
		if !strings.HasSuffix(e.Name(), ".json") {
			_ = os.Remove(path) // a record that was being written
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("shim: %w", err)
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil || !validID(r.ID) {
			return fmt.Errorf("shim: record %s is broken: %w", path, errors.Join(err, shim.ErrInternal))
		}
		if err := s.recoverOne(r); err != nil {
			return fmt.Errorf("shim: leftovers of %s: %w", r.ID, err)
		}
	}
	return nil
}

func (s *Server) recoverOne(r record) error {
	if r.Runtime != "" {
		// Best effort: the cgroup is what counts, and runtimes differ in what they accept.
		args := append(programArgs(r.Args, s.programDir()), "delete", "--force", r.ID)
		_ = exec.Command(r.Runtime, args...).Run()
	}
	m, err := cgroupOf(r.ID, &specs.Spec{Linux: &specs.Linux{CgroupsPath: r.Cgroup}})
	if err != nil {
		return err
	}
	if err := s.addParents(r.Cgroup, m.GetPaths()); err != nil {
		return err
	}
	killCgroup(m)
	if err := m.Destroy(); err != nil {
		return err
	}
	if err := unmountRootfs(filepath.Join(r.Bundle, "rootfs")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(s.libcontainerDir(), r.ID)); err != nil {
		return err
	}
	if s.names != nil {
		if err := s.names.Withdraw(r.ID); err != nil {
			return err
		}
	}
	c := &container{id: r.ID, server: s, bundle: r.Bundle, state: exitedState(r)}
	s.containers[r.ID] = c
	if err := writeJSON(filepath.Join(r.Bundle, "state.json"), c.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.forget(r.ID)
}

// exitedState is the exit that the earlier shim has seen, when it came to write it down, or that it was lost.
func exitedState(r record) shim.State {
	var old shim.State
	data, err := os.ReadFile(filepath.Join(r.Bundle, "state.json"))
	if err == nil && json.Unmarshal(data, &old) == nil && old.Status == shim.Exited && old.Finished.After(r.Time) {
		old.Netns = ""
		return old
	}
	state := shim.State{ID: r.ID, Status: shim.Exited, Finished: time.Now(), ExitCode: 137, Error: lost}
	if old.Started.After(r.Time) {
		state.Started = old.Started
	}
	return state
}
