package reconciler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/stack-run/stack/spec"
)

// applied is what is kept of a stack's last `up`, as <root>/stacks/<stack>/desired.json.
type applied struct {
	Stack *spec.Stack `json:"stack"`
}

func (r *Reconciler) desiredPath(name string) string {
	return filepath.Join(r.root, "stacks", name, "desired.json")
}

// setDesired records what a stack is to be, before anything is done about it.
func (r *Reconciler) setDesired(s *stack, desired *spec.Stack) error {
	data, err := json.Marshal(applied{Stack: desired})
	if err != nil {
		return fmt.Errorf("stack %s: %w", s.name, err)
	}
	path := r.desiredPath(s.name)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		s.mu.Lock()
		s.desired, s.loaded = desired, true
		s.mu.Unlock()
		return nil
	}
	if err := writeSynced(path, data); err != nil {
		return fmt.Errorf("stack %s: keep desired state: %w", s.name, err)
	}
	s.mu.Lock()
	s.desired, s.loaded = desired, true
	s.mu.Unlock()
	return nil
}

// desiredState is what a stack was last asked to be; nil when there is none.
func (r *Reconciler) desiredState(s *stack) (*spec.Stack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return s.desired, nil
	}
	data, err := os.ReadFile(r.desiredPath(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		s.loaded = true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stack %s: %w", s.name, err)
	}
	var a applied
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("stack %s: read desired state: %w", s.name, err)
	}
	s.desired, s.loaded = a.Stack, true
	return a.Stack, nil
}

// writeSynced replaces a file in one step that survives a power loss.
func writeSynced(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// One name: what a crash left is written over. The caller is the only writer.
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Stacks are the names of the stacks that have a desired state or containers here, sorted.
func (r *Reconciler) Stacks() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.root, "stacks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list stacks: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, v := range r.engine.List("") {
		names = append(names, v.Stack)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Desired is what a stack was last asked to be; nil when nothing was asked of it here.
func (r *Reconciler) Desired(name string) (*spec.Stack, error) {
	return r.desiredState(r.stack(name))
}
