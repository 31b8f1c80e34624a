package server

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/image/rootmount"
	"github.com/stack-run/stack/runtime/shim"
)

// mapOption of a mount shows its files with the owners they have in the container's user namespace.
const mapOption = "idmap"

// mountRootfs mounts a container's root on target, which is made when missing. What it could mount is unmounted when
// a later part fails. userns is the path of the container's user namespace, if it has one of its own.
func mountRootfs(target string, mounts []shim.Mount, userns string) (err error) {
	if err := os.MkdirAll(target, 0o711); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unmountRootfs(target)
		}
	}()
	for _, m := range mounts {
		if i := slices.Index(m.Options, mapOption); i >= 0 {
			err = mountMapped(target, m, slices.Delete(slices.Clone(m.Options), i, i+1), userns)
		} else {
			err = rootmount.Mount(m.Type, m.Source, target, m.Options)
		}
		if err != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	return nil
}

func mountMapped(target string, m shim.Mount, options []string, userns string) error {
	if userns == "" {
		return shimError(shim.CodeInvalid, "%s: the bundle names no user namespace", mapOption)
	}
	f, err := os.Open(userns)
	if err != nil {
		return shimError(shim.CodeInvalid, "user namespace: %v", err)
	}
	defer f.Close()
	err = rootmount.MountMapped(m.Type, m.Source, target, options, int(f.Fd()))
	if errors.Is(err, rootmount.ErrMapped) {
		return shimError(shim.CodeInvalid, "%v", err)
	}
	return err
}

// namespacePath is the path of the namespace that the bundle joins; "" when it makes a new one or shares the host's.
func namespacePath(spec *specs.Spec, kind specs.LinuxNamespaceType) string {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path
		}
	}
	return ""
}

// unmountRootfs takes every mount off target, at once for new users; a container that has its own copy of the mount
// keeps it.
func unmountRootfs(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("rootfs: unmount %s: %w", target, err)
		}
	}
}
