package voldriver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"

	"github.com/stack-run/stack/spec"
)

// Scope is what the mounts of one container are resolved in.
type Scope struct {
	Volumes     map[string]*spec.Volume // of the stack, by key
	Stack       string
	ContainerID string
	// Anonymous are the anonymous volumes that the container this one replaces had, by target. They are taken over.
	Anonymous map[string]string
}

// Check refuses a mount that no host could make, before anything is touched.
func (s *Store) Check(m spec.Mount) error {
	d, err := s.driver(m)
	if err != nil {
		return err
	}
	if !path.IsAbs(m.Target) {
		return fmt.Errorf("mount target %q is not an absolute path", m.Target)
	}
	if err := d.Check(m); err != nil {
		return fmt.Errorf("mount at %s: %w", m.Target, err)
	}
	return nil
}

func (s *Store) driver(m spec.Mount) (Driver, error) {
	d, ok := s.Drivers[m.Type]
	if !ok {
		return nil, fmt.Errorf("mount at %s: type %q: %w", m.Target, m.Type, ErrUnsupported)
	}
	return d, nil
}

// Resolve makes the source of a mount ready and says how to mount it. A named volume must exist; an anonymous one is made.
// Volumes are acquired for the container, until ReleaseUser. Resolve again before each start: a host path may have gone, a
// device may not be mounted any more.
func (s *Store) Resolve(ctx context.Context, in Scope, m spec.Mount) (Mount, error) {
	if err := s.Check(m); err != nil {
		return Mount{}, err
	}
	d, err := s.driver(m)
	if err != nil {
		return Mount{}, err
	}
	request := Request{Mount: m}
	if m.Type == spec.MountVolume {
		if request.Volume, err = s.volumeOf(ctx, in, m); err != nil {
			return Mount{}, err
		}
		if _, err := s.Acquire(ctx, request.Volume.Name, in.ContainerID); err != nil {
			return Mount{}, err
		}
	}
	out, err := d.Prepare(ctx, request)
	if err != nil {
		return Mount{}, fmt.Errorf("mount at %s: %w", m.Target, err)
	}
	return out, nil
}

// volumeOf finds the volume of a mount by the key in the stack file, or makes an anonymous one.
func (s *Store) volumeOf(ctx context.Context, in Scope, m spec.Mount) (Volume, error) {
	if m.Source != "" {
		name := m.Source
		if declared, ok := in.Volumes[m.Source]; ok {
			name = declared.Name
		}
		return s.Get(name)
	}
	if old := in.Anonymous[path.Clean(m.Target)]; old != "" {
		v, err := s.Get(old)
		if !errors.Is(err, ErrNotFound) {
			return v, err
		}
	}
	v, _, err := s.Anonymous(ctx, in.Stack, in.ContainerID, m.Target)
	return v, err
}

// Anonymous makes the volume behind a container's mount that names none, or finds it. Its name follows from the three, so
// that a crash can't make a second one.
func (s *Store) Anonymous(ctx context.Context, stack, containerID, target string) (Volume, bool, error) {
	return s.Ensure(ctx, Volume{
		Name:      AnonymousName(stack, containerID, target),
		Stack:     stack,
		Anonymous: true,
		Labels:    map[string]string{"com.docker.volume.anonymous": ""},
	})
}

// AnonymousName is the name of the volume behind a container's mount that names none: 64 hex digits.
func AnonymousName(stack, containerID, target string) string {
	sum := sha256.Sum256([]byte(stack + "\x00" + containerID + "\x00" + path.Clean(target)))
	return hex.EncodeToString(sum[:])
}

// SharedMemory makes the file system behind the /dev/shm of a container that shares it with others (`ipc: shareable`), and
// acquires it for that container. It is an anonymous volume in memory of at most size bytes, so that others can acquire it
// as well, a crash leaves nothing mounted, and what removes the container's anonymous volumes removes it.
func (s *Store) SharedMemory(ctx context.Context, stack, containerID string, size int64) (Volume, error) {
	v, _, err := s.Ensure(ctx, Volume{
		Name:      AnonymousName(stack, containerID, "/dev/shm"),
		Options:   map[string]string{"type": "tmpfs", "device": "shm", "o": fmt.Sprintf("nosuid,noexec,nodev,mode=1777,size=%d", size)},
		Stack:     stack,
		Anonymous: true,
		Populated: true,
	})
	if err != nil {
		return v, err
	}
	_, err = s.Acquire(ctx, v.Name, containerID)
	return v, err
}
