package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/stack-run/stack/runtime/logs"
)

// Retained is the log of a container that another one took the place of. It is kept as
// <root>/stacks/<stack>/logs/<container id>, the files of the log with retainedName beside them, until it is older than
// Options.LogRetain, until retainedMost younger ones of its service are there, or until the stack goes.
type Retained struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Service string    `json:"service"`
	Replica int       `json:"replica"`
	Created time.Time `json:"created"`
	Removed time.Time `json:"removed"`

	path string // of the log's current file
}

const (
	retainedName = "replaced.json"
	// retainedMost logs of replaced containers are kept of one service.
	retainedMost = 10
)

func (e *Engine) retainedDir(stack string) string { return filepath.Join(e.stackDir(stack), "logs") }

// retain moves a container's log to where it outlives the container. It says first, beside the log, what it is: a crash
// leaves it with the container, whose removal goes on with this, or in its place.
func (e *Engine) retain(v View) error {
	dir := filepath.Dir(logPath(v))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // never written, or moved already
	}
	kept := Retained{ID: v.ID, Name: v.Name, Service: v.Service, Replica: v.Replica, Created: v.Created, Removed: time.Now()}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, retainedName), text, 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(e.retainedDir(v.Stack), 0o700); err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(e.retainedDir(v.Stack), v.ID)); err != nil {
		return err
	}
	return e.pruneRetained(v.Stack)
}

// RetainedLogs lists the logs of replaced containers of a stack, the oldest first.
func (e *Engine) RetainedLogs(stack string) ([]Retained, error) {
	dir := e.retainedDir(stack)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("logs of replaced containers: %w", err)
	}
	var all []Retained
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name(), retainedName))
		if err != nil {
			continue // pruned meanwhile
		}
		r := Retained{path: filepath.Join(dir, entry.Name(), logName)}
		if json.Unmarshal(text, &r) == nil && r.ID == entry.Name() {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Retained) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// pruneRetained removes what is kept longer than it should be.
func (e *Engine) pruneRetained(stack string) error {
	all, err := e.RetainedLogs(stack)
	if err != nil {
		return err
	}
	var errs []error
	younger := map[string]int{}
	for _, r := range slices.Backward(all) {
		younger[r.Service]++
		if younger[r.Service] <= retainedMost && (e.opts.LogRetain == 0 || time.Since(r.Removed) < e.opts.LogRetain) {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Dir(r.path)))
	}
	return errors.Join(errs...)
}

// RetainedLog reads the log of a replaced container, calling yield for each entry until it fails. One that is not kept
// any more is ErrNotFound.
func (e *Engine) RetainedLog(ctx context.Context, stack, id string, opts logs.Options, yield func(logs.Entry) error) error {
	path := filepath.Join(e.retainedDir(stack), id, logName)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("log of container %.12s: %w", id, ErrNotFound)
	}
	opts.Follow = false
	return logs.Read(ctx, path, opts, yield)
}
