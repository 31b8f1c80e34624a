package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/rootmount"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// userns_mode: auto gives a container ids of its own: container ids 0..65535 are host ids from usernsBase on. All such
// containers of a host share the range, as with Docker's userns-remap; they are kept apart by everything else.
const (
	usernsBase = 1 << 20
	usernsSize = 1 << 16
)

// ownIDs tells whether the service's containers have ids of their own.
func ownIDs(s *spec.Service) bool { return s.UsernsMode == "auto" }

func (e *Engine) idMaps(r *Record) (uids, gids []specs.LinuxIDMapping) {
	if !ownIDs(&r.Spec) {
		return nil, nil
	}
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: usernsBase, Size: usernsSize}}
	return m, m
}

func shimMaps(maps []specs.LinuxIDMapping) []shim.IDMap {
	var out []shim.IDMap
	for _, m := range maps {
		out = append(out, shim.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
	}
	return out
}

func unsupported(attribute, format string, args ...any) error {
	return &bundle.AttributeError{Attribute: attribute, Err: fmt.Errorf("%w: %w", bundle.ErrUnsupported, fmt.Errorf(format, args...))}
}

// checkIDs refuses what the kernel lets no container with ids of its own do.
func (e *Engine) checkIDs(s *spec.Service) error {
	switch s.UsernsMode {
	case "", "host":
		return nil
	case "auto":
	default:
		return fmt.Errorf("userns_mode %q is not supported; use host, or auto for ids of the container's own", s.UsernsMode)
	}
	if err := e.canMap(); errors.Is(err, rootmount.ErrMapped) {
		return unsupported("userns_mode", "%w; auto needs Linux 5.19 or later with user namespaces, and the daemon's folder %s on a filesystem like ext4, xfs or btrfs; "+
			"or leave userns_mode out", err, e.opts.Root)
	} else if err != nil {
		return fmt.Errorf("userns_mode: %w", err)
	}
	if err := checkWay(e.opts.Root, usernsBase); err != nil {
		return err
	}
	ownNetwork := s.NetworkMode != "host" && !sharesNamespace(s.NetworkMode)
	var errs []error
	for _, shared := range []struct{ attribute, mode string }{{"pid", s.PID}, {"ipc", s.IPC}} {
		if shared.mode == "host" {
			errs = append(errs, unsupported(shared.attribute, "the host's can't be shared by a container with ids of its own; leave out userns_mode or %s", shared.attribute))
		}
		if sharesNamespace(shared.mode) && ownNetwork {
			errs = append(errs, unsupported(shared.attribute, "a container with ids of its own shares them with %s, and needs network_mode: %s too; or leave userns_mode out", shared.mode, shared.mode))
		}
	}
	return errors.Join(errs...)
}

// canMap tries once what containers with ids of their own need.
func (e *Engine) canMap() error {
	e.mapping.Lock()
	defer e.mapping.Unlock()
	if e.mapped {
		return nil
	}
	err := rootmount.Supported(e.opts.Root)
	e.mapped = err == nil
	return err
}

func sharesNamespace(mode string) bool {
	return strings.HasPrefix(mode, "service:") || strings.HasPrefix(mode, "container:")
}

// userNamespace returns the path of the user namespace that a container is to join; "" for one with the host's ids. A
// namespace's resources belong to one user namespace: who shares the network, processes or IPC of another container, shares
// its user namespace as well.
func (e *Engine) userNamespace(ctx context.Context, c *Container, v View) (string, error) {
	if !ownIDs(&v.Spec) {
		return "", nil
	}
	var joined, namespace string
	for _, shared := range []struct{ attribute, mode, of string }{
		{"network_mode", v.Spec.NetworkMode, v.NetOf}, {"pid", v.Spec.PID, v.PIDOf}, {"ipc", v.Spec.IPC, v.IPCOf},
	} {
		if shared.of == "" {
			continue
		}
		owner, err := e.Get(shared.of)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", shared.attribute, shared.mode, err)
		}
		if !ownIDs(&owner.Spec) {
			return "", unsupported(shared.attribute, "container %s has the host's ids; give both userns_mode: auto, or none", owner.Name)
		}
		pid, err := e.runningPID(shared.of)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", shared.attribute, shared.mode, err)
		}
		path := procPath(pid, "ns/user")
		link, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", shared.attribute, shared.mode, err)
		}
		if namespace != "" && link != namespace {
			return "", unsupported(shared.attribute, "a container with ids of its own can share with one other container, and those it shares with; %s is not one of them", owner.Name)
		}
		joined, namespace = path, link
	}
	if joined != "" {
		return joined, nil
	}
	return e.ownUserNamespace(ctx, c, v)
}

// ownUserNamespace returns that of the container's sandbox. A container on the host's network has a sandbox for nothing else.
func (e *Engine) ownUserNamespace(ctx context.Context, c *Container, v View) (string, error) {
	c.mu.Lock()
	path := c.userns
	c.mu.Unlock()
	if path != "" && v.NetMode != NetHost {
		return path, nil
	}
	s, err := e.shim(ctx, v.Stack, true)
	if err != nil {
		return "", err
	}
	uids, gids := e.idMaps(&v.Record)
	reply, err := s.client.Sandbox(ctx, shim.SandboxRequest{
		ID: v.ID, UIDs: shimMaps(uids), GIDs: shimMaps(gids), HostNetwork: v.NetMode == NetHost,
	})
	if err != nil {
		return "", fmt.Errorf("user namespace: %w", err)
	}
	return reply.Userns, nil
}

// mapRootfs has the root filesystem shown with the owners it has in the container's user namespace, and opens the way to it:
// the container's own root sets it up, who is nobody to the host.
func (e *Engine) mapRootfs(v View, mounts []image.Mount) ([]image.Mount, error) {
	out := make([]image.Mount, len(mounts))
	for i, m := range mounts {
		out[i] = m
		out[i].Options = append([]string{"idmap"}, m.Options...)
	}
	return out, openWay(e.opts.Root, v.Dir, usernsBase)
}

// openWay lets the group pass through the folders from root to dir, but not list them. Others still can't, so that what containers
// leave in there, programs with set-user-id among them, is in nobody's reach.
func openWay(root, dir string, gid int) error {
	for ; strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
		mode, group, err := permissions(dir)
		if err != nil {
			return err
		}
		if passable(mode, group, gid) {
			continue
		}
		if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, mode&0o700|0o010)); err != nil {
			return fmt.Errorf("open the way to the root filesystem: %w", err)
		}
	}
	return nil
}

// checkWay tells whether the group can pass through the folders above root, which are not the daemon's.
func checkWay(root string, gid int) error {
	for dir := filepath.Dir(root); ; dir = filepath.Dir(dir) {
		mode, group, err := permissions(dir)
		if err != nil {
			return err
		}
		if !passable(mode, group, gid) {
			return unsupported("userns_mode", "the container's root can't pass through %s to its root filesystem; run chmod o+x %s, or give the daemon another --root", dir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func passable(mode fs.FileMode, group, gid int) bool {
	return mode&0o001 != 0 || mode&0o010 != 0 && group == gid
}

func permissions(dir string) (mode fs.FileMode, group int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("the way to the root filesystem: %w", err)
	}
	return info.Mode().Perm(), int(info.Sys().(*syscall.Stat_t).Gid), nil
}
