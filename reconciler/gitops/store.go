package gitops

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/spec"
)

// What is kept of a repository in its folder, beside what package checkout keeps.
const (
	stateFile      = "state.json"
	definitionFile = "definition.json" // of those that the command added
	appliedFolder  = "applied"         // the last desired state of each stack that converged
)

// write replaces a file in one step.
func write(file string, value any) error { return put(file, value, false) }

// writeSynced is write for what has to survive a power loss.
func writeSynced(file string, value any) error { return put(file, value, true) }

func put(file string, value any, synced bool) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, data, synced)
}

// read fills value from a file; it tells whether there was one that could be read.
func read(file string, value any) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(data, value) == nil, nil // a torn one is as good as none
}

// digest of anything that is JSON.
func digest(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("gitops: marshal %T: %v", value, err)) // plain data of this package and spec
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// loadState reads what is kept of a repository.
func loadState(dir, name string) (status.Repository, error) {
	s := status.Repository{Name: name}
	ok, err := read(filepath.Join(dir, stateFile), &s)
	if !ok {
		s = status.Repository{Name: name}
	}
	return s, err
}

// loadDefinition reads what the command added; ok is false where it added nothing.
func loadDefinition(dir string) (r declare.Repository, ok bool, err error) {
	ok, err = read(filepath.Join(dir, definitionFile), &r)
	return r, ok, err
}

func appliedFile(dir, stack string) string { return filepath.Join(dir, appliedFolder, stack+".json") }

// loadApplied is the last desired state of a stack that converged, nil without one.
func loadApplied(dir, stack string) (*spec.Stack, error) {
	var s spec.Stack
	ok, err := read(appliedFile(dir, stack), &s)
	if !ok {
		return nil, err
	}
	return &s, nil
}
