package voldriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/sys/mountinfo"
)

// Remove deletes a volume and its data, except for data that lives elsewhere (type/o/device). It is called only on an
// explicit request that names the volume.
func (s *Store) Remove(ctx context.Context, name string) error {
	st := s.lock(name)
	defer st.mu.Unlock()
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	if users := st.names(); len(users) > 0 {
		return fmt.Errorf("volume %s: %w by %s", name, ErrInUse, strings.Join(users, ", "))
	}
	backend, err := s.backend(v)
	if err != nil {
		return err
	}
	if err := backend.Detach(ctx, v); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	// Nothing may be mounted below, or deleting would reach into it.
	if err := noMounts(s.folder(name)); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	if backend.Foreign(v) {
		// The mount point itself is empty; rmdir refuses if that is wrong.
		if err := os.Remove(v.Mountpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("volume %s: %w", name, err)
		}
	}
	gone := filepath.Join(s.Root, removedPrefix+name)
	if err := removeFolder(gone); err != nil { // left by an earlier removal
		return err
	}
	if err := os.Rename(s.folder(name), gone); err != nil {
		return err
	}
	return removeFolder(gone)
}

// removeFolder deletes a folder, unless something is mounted in it.
func removeFolder(path string) error {
	if err := noMounts(path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

func noMounts(path string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%w: something is mounted at %s; unmount it", ErrInUse, mounts[0].Mountpoint)
	}
	return nil
}

// Prune removes the volumes nobody uses that pick chooses, and tells how many bytes that freed. What can't be removed is
// left and reported, the rest goes on.
func (s *Store) Prune(ctx context.Context, pick func(Volume) bool) (removed []Volume, freed int64, err error) {
	volumes, err := s.List()
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, v := range volumes {
		if len(s.Users(v.Name)) > 0 || !pick(v) {
			continue
		}
		size, err := s.Size(ctx, v.Name)
		if err != nil {
			size = 0
		}
		switch err := s.Remove(ctx, v.Name); {
		case err == nil:
			removed, freed = append(removed, v), freed+size
		case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInUse):
			errs = append(errs, err)
		}
	}
	return removed, freed, errors.Join(errs...)
}

// Size is how many bytes the volume takes on this host's disk. Data that lives elsewhere is ErrUnsupported.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	v, err := s.Get(name)
	if err != nil {
		return 0, err
	}
	backend, err := s.backend(v)
	if err != nil {
		return 0, err
	}
	if backend.Foreign(v) {
		return 0, fmt.Errorf("volume %s: size: %w: its data is not on this disk", name, ErrUnsupported)
	}
	usage, err := continuity.DiskUsage(ctx, v.Mountpoint)
	return usage.Size, err
}
