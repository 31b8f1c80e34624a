package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// List tells of all repositories, by name.
func (c *Controller) List() ([]status.Repository, error) {
	var out []status.Repository
	for _, r := range c.all() {
		out = append(out, r.snapshot())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return out, c.broken
}

// Get tells of one.
func (c *Controller) Get(name string) (status.Repository, error) {
	r := c.find(name)
	if r == nil {
		return status.Repository{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return r.snapshot(), nil
}

// Add follows one more repository, or with replace one anew.
func (c *Controller) Add(def declare.Repository, replace bool) error {
	if ps := def.Check(); len(ps) > 0 {
		return ps
	}
	c.change.Lock()
	defer c.change.Unlock()
	for _, other := range def.DependsOn {
		if c.find(other) == nil {
			return declare.Problems{{Path: "dependsOn", Summary: fmt.Sprintf("no repository is called %q here", other)}}
		}
	}
	if old := c.find(def.Name); old != nil {
		if old.declared != "" {
			return fmt.Errorf("%s: %w: change %s", def.Name, ErrDeclared, old.declared)
		}
		if !replace {
			return fmt.Errorf("%s: %w", def.Name, ErrExists)
		}
		c.end(old)
	}
	dir := filepath.Join(c.opts.Root, def.Name)
	if err := os.MkdirAll(dir, 0o711); err != nil { // containers of other users go through it
		return err
	}
	if err := writeSynced(filepath.Join(dir, definitionFile), def); err != nil {
		return err
	}
	return c.begin(def, "")
}

// Remove stops following a repository. Its stacks run on, unless down is set.
func (c *Controller) Remove(ctx context.Context, name string, down, volumes bool) error {
	c.change.Lock()
	defer c.change.Unlock()
	r := c.find(name)
	if r == nil {
		return fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if r.declared != "" {
		return fmt.Errorf("%s: %w: take it out of %s", name, ErrDeclared, r.declared)
	}
	c.end(r)
	if down {
		for _, st := range r.snapshot().Stacks {
			if err := c.opts.Stacks.Down(ctx, st.Name, volumes); err != nil {
				def := r.definition()
				return errors.Join(fmt.Errorf("stack %s: %w", st.Name, err), c.begin(def, ""))
			}
		}
	}
	if volumes {
		if err := os.RemoveAll(filepath.Join(r.dir, checkout.Data)); err != nil {
			return err
		}
	}
	c.release(r)
	c.sweepReleased()
	return nil
}

// SyncOptions of a Sync.
type SyncOptions struct {
	By           string
	Force        bool // look at every stack again, though its revision is applied
	AllowRewrite bool // this once
}

// Sync reconciles now, and returns what came of it.
func (c *Controller) Sync(ctx context.Context, name string, o SyncOptions) (status.Repository, error) {
	r := c.find(name)
	if r == nil {
		return status.Repository{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if s := r.snapshot(); s.Suspended || r.definition().Suspend {
		return s, fmt.Errorf("%s: %w", name, ErrSuspended)
	}
	select {
	case <-r.ask(request{by: o.By, force: o.Force, allowRewrite: o.AllowRewrite}):
		return r.snapshot(), nil
	case <-ctx.Done():
		return status.Repository{}, ctx.Err()
	}
}

// Wake reconciles as soon as possible, and does not wait for it: a webhook came.
func (c *Controller) Wake(name, by string) bool {
	r := c.find(name)
	if r == nil {
		return false
	}
	r.ask(request{by: by})
	return true
}

// Suspend leaves a repository's stacks alone until Resume.
func (c *Controller) Suspend(name string, suspended bool) error {
	r := c.find(name)
	if r == nil {
		return fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if r.definition().Suspend {
		return fmt.Errorf("%s: %w with suspend: true: change %s", name, ErrDeclared, r.declared)
	}
	r.update(func(s *status.Repository) {
		if s.Suspended == suspended {
			return
		}
		s.Suspended = suspended
		reason := "Resumed"
		if suspended {
			reason = status.Suspended
		}
		s.Tell(status.Event{Time: time.Now().UTC(), Type: status.Ready, Reason: reason, Message: "by command"})
	})
	if !suspended {
		r.ask(request{by: "resume"})
	}
	return nil
}
