package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stack-run/stack/runtime/shim"
)

// Create makes a container from a record: its folder and root filesystem, nothing running. prepare, called when the
// record is on disk, makes what else the container owns (addresses, volumes) and completes the record with it. When
// prepare or a step after it fails, or after a crash in the middle, the record stays in phase Making: Remove takes back
// what was made.
func (e *Engine) Create(ctx context.Context, r Record, prepare func(*Record) error) (View, error) {
	r.Phase = Making
	dir := e.containerDir(r.Stack, r.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return View{}, fmt.Errorf("container %s: %w", r.Name, err)
	}
	lines, err := writeRecord(dir, &r, 0)
	if err != nil {
		return View{}, errors.Join(err, os.RemoveAll(dir))
	}
	c := e.add(r)
	c.lines = lines
	done := r
	if err = prepare(&done); err == nil {
		if _, err = e.opts.Images.Rootfs(ctx, r.ImageID, r.ID, dir); err == nil {
			done.Phase = Made
		}
	}
	if updateErr := c.update(func(r *Record) { *r = done }); err == nil {
		err = updateErr
	}
	if err != nil {
		return c.View(), fmt.Errorf("create container %s: %w", r.Name, err)
	}
	return c.View(), nil
}

// Remove deletes a container that has no process: root filesystem, shim state and, last, its record. cleanup, called
// before anything is deleted, gives back what the container owns elsewhere (addresses, ports, volumes). Removing what is
// not there succeeds.
func (e *Engine) Remove(ctx context.Context, id string, cleanup func(View) error) error {
	c, err := e.get(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	v := c.View()
	if v.Running() {
		return fmt.Errorf("remove container %s: %w; stop it first", v.Name, ErrRunning)
	}
	if v.Phase != Removing {
		if err := c.update(func(r *Record) { r.Phase = Removing }); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOSPC) {
			return err // on a full disk, removing is what helps
		}
	}
	if err := e.release(ctx, c, v); err != nil {
		return fmt.Errorf("remove container %s: %w", v.Name, err)
	}
	if err := cleanup(v); err != nil {
		return fmt.Errorf("remove container %s: %w", v.Name, err)
	}
	if err := e.opts.Images.ReleaseRootfs(ctx, v.ID, v.Dir); err != nil {
		return fmt.Errorf("remove container %s: %w", v.Name, err)
	}
	if err := os.RemoveAll(e.secretsDir(&v.Record)); err != nil {
		return fmt.Errorf("remove container %s: %w", v.Name, err)
	}
	if v.KeepLog {
		if err := e.retain(v); err != nil {
			return fmt.Errorf("remove container %s: keep its log: %w", v.Name, err)
		}
	}
	c.bury()
	if err := removeContainerDir(v.Dir); err != nil {
		return fmt.Errorf("remove container %s: %w", v.Name, err)
	}
	e.mu.Lock()
	delete(e.containers, id)
	e.mu.Unlock()
	return nil
}

// removeContainerDir removes the folder with the record last, so that a crash in the middle leaves it to be found.
func removeContainerDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == recordName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// release lets the shim forget a container: its cgroup, network namespace and held ports go. Where a shim died, a new
// one is started: it ends what is left of the dead one's containers.
func (e *Engine) release(ctx context.Context, c *Container, v View) error {
	c.mu.Lock()
	released := c.released
	c.mu.Unlock()
	if released {
		return nil
	}
	s, err := e.shim(ctx, v.Stack, e.hadShim(v.Stack))
	if err != nil || s == nil {
		return err
	}
	if err := s.client.Release(ctx, v.ID); err != nil && !errors.Is(err, shim.ErrNotFound) {
		return err
	}
	c.mu.Lock()
	c.released = true
	c.state.Netns, c.userns = "", ""
	c.mu.Unlock()
	return nil
}

// RemoveStack removes what is left of a stack without containers: its shim and its folder.
func (e *Engine) RemoveStack(ctx context.Context, stack string) error {
	if left := e.List(stack); len(left) > 0 {
		return fmt.Errorf("stack %s still has %d containers: %w", stack, len(left), ErrRunning)
	}
	if err := e.stopShim(ctx, stack); err != nil {
		return fmt.Errorf("stop the shim of stack %s: %w", stack, err)
	}
	if err := os.RemoveAll(filepath.Join(e.opts.RunDir, "secrets", stack)); err != nil {
		return err
	}
	return os.RemoveAll(e.stackDir(stack))
}
