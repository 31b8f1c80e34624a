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

// formerDesiredPath is where daemons before there were revisions kept the desired state. It counts until there is a revision.
func (r *Reconciler) formerDesiredPath(name string) string {
	return filepath.Join(r.stackDir(name), "desired.json")
}

// desiredState is what a stack was last asked to be, its newest revision; nil when there is none.
func (r *Reconciler) desiredState(s *stack) (*spec.Stack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return s.desired, nil
	}
	desired, newest, err := r.readDesired(s.name)
	if err != nil {
		return nil, err
	}
	s.desired, s.newest, s.loaded = desired, newest, true
	return desired, nil
}

func (r *Reconciler) readDesired(name string) (*spec.Stack, Revision, error) {
	numbers, err := r.revisionNumbers(name)
	if err != nil {
		return nil, Revision{}, err
	}
	if len(numbers) == 0 {
		desired, err := r.readFormerDesired(name)
		return desired, Revision{}, err
	}
	newest := r.about(name, numbers[len(numbers)-1])
	desired, err := r.readRevision(name, newest.Number)
	if err == nil && newest.Digest == "" { // what is known about it was lost
		newest.Digest = stackDigest(desired)
	}
	return desired, newest, err
}

func (r *Reconciler) readFormerDesired(name string) (*spec.Stack, error) {
	data, err := os.ReadFile(r.formerDesiredPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stack %s: %w", name, err)
	}
	var a applied
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("stack %s: read desired state: %w", name, err)
	}
	return a.Stack, nil
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
