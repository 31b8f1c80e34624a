package voldriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/sysx"
	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// A volume is filled in two steps. First the image's folder is copied to a staging folder on the volume's file system; a
// crash here is undone by copying anew. When the copy is complete the staging folder is renamed to say so, and its entries are
// moved one by one to the volume, which keeps its inode for those who have it mounted; a crash here is undone by moving
// the rest.
const (
	staging = ".stack-copy"
	staged  = ".stack-copied"
)

// CopyUp fills a volume on first use with what the image has at target: content, owners, modes, times, links, devices and
// extended attributes, and the folder's own. Rootfs is a mounted view of the image. A volume that has content, or has been
// filled before, is left alone; without a folder at target there is nothing to do. The volume must be acquired.
func (s *Store) CopyUp(_ context.Context, name, rootfs, target string) error {
	defer s.lock(name).mu.Unlock()
	v, err := s.Get(name)
	if err != nil || v.Populated {
		return err
	}
	source, err := securejoin.SecureJoin(rootfs, target)
	if err != nil {
		return err
	}
	if st, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.fill(v, source); err != nil {
		return fmt.Errorf("volume %s: copy %s of the image: %w", name, target, err)
	}
	v.Populated = true
	return s.record(v)
}

// SkipCopyUp records that a volume is not to be filled.
func (s *Store) SkipCopyUp(_ context.Context, name string) error {
	defer s.lock(name).mu.Unlock()
	v, err := s.Get(name)
	if err != nil || v.Populated {
		return err
	}
	v.Populated = true
	return s.record(v)
}

func (s *Store) fill(v Volume, source string) error {
	// Staging has to be on the volume's own file system, so that entries can be moved.
	place := filepath.Dir(v.Mountpoint)
	if backend, err := s.backend(v); err != nil {
		return err
	} else if backend.Foreign(v) {
		place = v.Mountpoint
	}
	half, whole := filepath.Join(place, staging), filepath.Join(place, staged)
	if _, err := os.Lstat(whole); errors.Is(err, fs.ErrNotExist) {
		if empty, err := isEmpty(v.Mountpoint); err != nil || !empty {
			return err
		}
		if err := copyTree(half, source); err != nil {
			os.RemoveAll(half)
			return err
		}
		if err := os.Rename(half, whole); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	entries, err := os.ReadDir(whole)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(whole, e.Name()), filepath.Join(v.Mountpoint, e.Name())); err != nil {
			return err
		}
	}
	if err := copyAttributes(v.Mountpoint, whole); err != nil {
		return err
	}
	if len(entries) > 0 { // the record must not reach the disk before the data
		if err := syncAt(v.Mountpoint); err != nil {
			return err
		}
	}
	if err := os.Remove(whole); err != nil {
		return err
	}
	return copyTimes(v.Mountpoint, source)
}

// isEmpty leaves out what a new file system has and what an interrupted copy left.
func isEmpty(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" && e.Name() != staging {
			return false, nil
		}
	}
	return true, nil
}

// copyTree copies a folder to one that it makes anew.
func copyTree(target, source string) error {
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := continuity.CopyDir(target, source); err != nil {
		return err
	}
	// Each entry made in a folder changed its times.
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		below, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return copyTimes(filepath.Join(target, below), path)
	})
}

func copyTimes(target, source string) error {
	st, err := os.Lstat(source)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	times := []unix.Timespec{unix.Timespec(sys.Atim), unix.Timespec(sys.Mtim)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, target, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: target, Err: err}
	}
	return nil
}

// copyAttributes gives the volume's root the owner, mode and extended attributes of the copied folder.
func copyAttributes(target, copied string) error {
	st, err := os.Lstat(copied)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	if err := os.Chown(target, int(sys.Uid), int(sys.Gid)); err != nil {
		return err
	}
	if err := os.Chmod(target, st.Mode()); err != nil {
		return err
	}
	names, err := sysx.LListxattr(copied)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return &os.PathError{Op: "listxattr", Path: copied, Err: err}
	}
	for _, name := range names {
		value, err := sysx.LGetxattr(copied, name)
		if err == nil {
			err = sysx.LSetxattr(target, name, value, 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &os.PathError{Op: "setxattr " + name, Path: target, Err: err}
		}
	}
	return nil
}

func syncAt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
