package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// Rootfs says how to mount a container's root filesystem: the image below, what the container writes above. With overlay
// the writable part lies in dir (upper and work), the container's own folder, which must be on a filesystem that can be an
// upper layer; with native, in the snapshotter. Calling it again for the same container returns the same mounts, and keeps
// what was written.
//
// The store must not remove the image while the container exists: Options.InUse tells it.
func (s *Store) Rootfs(ctx context.Context, imageID, containerID, dir string) ([]Mount, error) {
	ctx = s.ctx(ctx)
	mounts, err := s.rootfs(ctx, imageID, containerID, dir)
	return mounts, describe(ctx, imageID, err)
}

func (s *Store) rootfs(ctx context.Context, imageID, containerID, dir string) ([]Mount, error) {
	d, err := s.unpacked(ctx, imageID)
	if err != nil {
		return nil, err
	}
	if !s.overlay {
		return s.nativeRootfs(ctx, d.top(), containerID)
	}
	lowers, err := s.lowersOf(ctx, d)
	if err != nil {
		return nil, err
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, path := range []string{upper, work} {
		// Mode 755 as the root folder of the container, whatever the umask.
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("root filesystem: %w", err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return nil, fmt.Errorf("root filesystem: %w", err)
		}
	}
	options := append(lowerOptions(lowers), "upperdir="+escapeOption(upper), "workdir="+escapeOption(work))
	return []Mount{{Type: "overlay", Source: "overlay", Options: options}}, nil
}

// lowerOptions are those of any overlay mount on an image.
func lowerOptions(lowers []string) []string {
	escaped := make([]string, len(lowers))
	for i, l := range lowers {
		escaped[i] = strings.ReplaceAll(escapeOption(l), ":", `\:`)
	}
	options := []string{"lowerdir=" + strings.Join(escaped, ":")}
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		// The index would tie the upper folder to this very mount of these very lower folders.
		options = append(options, "index=off")
	}
	return options
}

// escapeOption writes a path as overlay's option parser wants it.
func escapeOption(path string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(path)
}

// lowersOf are the folders of an image's layers; of an image without layers, an empty one.
func (s *Store) lowersOf(ctx context.Context, d *document) ([]string, error) {
	if d.top() != "" {
		return s.layerDirs(ctx, d.top())
	}
	empty := filepath.Join(s.opts.Root, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		return nil, err
	}
	return []string{empty}, nil
}

func containerKey(containerID string) string { return "container-" + containerID }

func (s *Store) nativeRootfs(ctx context.Context, top, containerID string) ([]Mount, error) {
	key := containerKey(containerID)
	mounts, err := s.prepare(ctx, key, top, snapshots.WithLabels(map[string]string{"containerd.io/gc.root": containerID}))
	if errdefs.IsAlreadyExists(err) {
		mounts, err = s.snaps.Mounts(ctx, key)
	}
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	list := make([]Mount, len(mounts))
	for i, m := range mounts {
		list[i] = Mount{Type: m.Type, Source: m.Source, Options: m.Options}
	}
	return list, nil
}

// ReleaseRootfs removes what the container wrote. It must not be mounted any more. Releasing what is not there is no error.
func (s *Store) ReleaseRootfs(ctx context.Context, containerID, dir string) error {
	ctx = s.ctx(ctx)
	if !s.overlay {
		if err := ignoreNotFound(s.snaps.Remove(ctx, containerKey(containerID))); err != nil {
			return fmt.Errorf("root filesystem of %s: %w", containerID, err)
		}
		return nil
	}
	return errors.Join(os.RemoveAll(filepath.Join(dir, "upper")), os.RemoveAll(filepath.Join(dir, "work")))
}

// unpacked returns an image's documents, its layers being unpacked: they may have been dropped after a power failure, or be
// there for another snapshotter only.
func (s *Store) unpacked(ctx context.Context, imageID string) (*document, error) {
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	found := filter(all, func(r record) bool { return r.id == imageID })
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	d, err := s.document(ctx, found[0].manifest)
	if err != nil {
		return nil, err
	}
	top := d.top()
	if top == "" {
		return d, nil
	}
	if _, known := s.lowers.Load(top); known {
		return d, nil
	}
	if _, err := s.snaps.Stat(ctx, top); err == nil {
		return d, nil
	}
	s.garbage.hold()
	defer s.release()
	if err := s.unpackDurably(ctx, nil, d, nil); err != nil {
		return nil, err
	}
	for _, r := range found {
		if err := s.setName(ctx, r, d); err != nil { // refers to this snapshotter's snapshots now
			return nil, err
		}
	}
	return d, nil
}
