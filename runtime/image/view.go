package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stack-run/stack/runtime/image/rootmount"
	"golang.org/x/sys/unix"
)

// maxRead bounds ReadFile.
const maxRead = 1 << 20

// Mounted gives a read-only view of an image's root as a folder, for this process only and until release is called. Paths
// below it may hold symbolic links that lead outside: resolve them within (openat2 with RESOLVE_IN_ROOT), never plainly.
//
// An image of several layers is mounted for a moment, and then held by a descriptor alone: the host's mount table stays as
// it was, and nothing outlives the process.
func (s *Store) Mounted(ctx context.Context, imageID string) (dir string, release func() error, err error) {
	ctx = s.ctx(ctx)
	dir, release, err = s.mounted(ctx, imageID)
	return dir, release, describe(ctx, imageID, err)
}

func (s *Store) mounted(ctx context.Context, imageID string) (string, func() error, error) {
	d, err := s.unpacked(ctx, imageID)
	if err != nil {
		return "", nil, err
	}
	lowers, err := s.lowersOf(ctx, d)
	if err != nil {
		return "", nil, err
	}
	if len(lowers) == 1 {
		return lowers[0], func() error { return nil }, nil
	}
	root, err := s.detached(lowers)
	if err != nil {
		return "", nil, fmt.Errorf("view: %w", err)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), root.Fd()), root.Close, nil
}

// detached mounts lowers read-only and takes the mount out of the table again, keeping it alive by the open folder.
func (s *Store) detached(lowers []string) (*os.File, error) {
	parent := filepath.Join(s.opts.Root, "views")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	point, err := os.MkdirTemp(parent, "view-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(point)
	if err := rootmount.Mount("overlay", "overlay", point, append([]string{"ro", "nodev", "nosuid"}, lowerOptions(lowers)...)); err != nil {
		return nil, err
	}
	fd, err := unix.Open(point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err := errors.Join(err, unix.Unmount(point, unix.MNT_DETACH)); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), point), nil
}

// dropViews removes what a process killed between mounting a view and detaching it has left.
func (s *Store) dropViews() error {
	points, err := filepath.Glob(filepath.Join(s.opts.Root, "views", "view-*"))
	if err != nil {
		return err
	}
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("view %s: %w", point, err)
		}
		if err := os.Remove(point); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile reads a regular file of an image of up to a megabyte. Symbolic links are followed within the image. A missing
// file is fs.ErrNotExist.
func (s *Store) ReadFile(ctx context.Context, imageID, path string) ([]byte, error) {
	dir, release, err := s.Mounted(ctx, imageID)
	if err != nil {
		return nil, err
	}
	defer release()
	body, err := readWithin(dir, path)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", imageID, err)
	}
	return body, nil
}

func readWithin(dir, path string) ([]byte, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	// First only a handle: opening a device node or a FIFO of the image could do something.
	handle, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxRead {
		return nil, fmt.Errorf("%s is no regular file of up to %d bytes", path, maxRead)
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", handle))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}
