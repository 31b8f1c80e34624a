package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// containerd's stores make a folder first and write it to their database after: a process killed in between leaves a folder
// nobody knows. A snapshotter gives its number out again, fails on the folder, and removes it, even if by then another
// caller has succeeded in making it. So strays are removed at the next start, before anybody is given a number.

// prepare begins a snapshot.
func (s *Store) prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	if s.overlay {
		return s.snaps.Prepare(ctx, key, parent, opts...)
	}
	// native can't find its strays at the start: it meets one at most, removes it, and is asked again. Alone, for the
	// reason above; it copies one folder at a time anyway.
	s.strays.Lock()
	defer s.strays.Unlock()
	mounts, err := s.snaps.Prepare(ctx, key, parent, opts...)
	if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENOTEMPTY) {
		return s.snaps.Prepare(ctx, key, parent, opts...)
	}
	return mounts, err
}

// dropStrays removes folders of snapshots never made. With overlay it is asked only after a pull that was cut off, outside
// of which it makes none.
func (s *Store) dropStrays(ctx context.Context) error {
	if c, ok := s.backend.(snapshots.Cleaner); ok {
		err := c.Cleanup(ctx)
		if notFound(err) { // no snapshot was ever made
			return removeAll(filepath.Join(s.snapDir, "snapshots", "*"))
		}
		return err
	}
	for _, pattern := range []string{"new-*", "rm-*"} {
		if err := removeAll(filepath.Join(s.snapDir, "snapshots", pattern)); err != nil {
			return err
		}
	}
	return nil
}

// dropIngests removes unfinished downloads that don't say of what, which containerd's collection passes over.
func (s *Store) dropIngests() error {
	found, err := filepath.Glob(filepath.Join(s.opts.Root, "content", "ingest", "*"))
	if err != nil {
		return err
	}
	for _, dir := range found {
		if _, err := os.Lstat(filepath.Join(dir, "ref")); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func removeAll(pattern string) error {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
