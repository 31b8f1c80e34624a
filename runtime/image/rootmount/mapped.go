package rootmount

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMapped says that the kernel, or the filesystem the folders lie on, can't show their files with other owners: id-mapped
// mounts came with Linux 5.12, overlays of them with 5.19, and not every filesystem takes part.
var ErrMapped = errors.New("id-mapped mounts are not supported")

// MountMapped is Mount for a container with a user namespace of its own: what user n of the image owns is shown as owned by
// user n of the namespace.
//
// The layers of an overlay are shared with other containers, so it is their mounts that are mapped. The upper folder is
// this container's alone and is not mapped, as the kernel itself writes there: it is given to the namespace's root, and
// its files have the owners they have on the host. A bind, which is all of the root, is mapped and keeps the image's owners.
func MountMapped(fstype, source, target string, options []string, userns int) error {
	r := parse(fstype, source, target, options)
	if r.flags&unix.MS_BIND != 0 {
		return r.describe(r.bindMapped(userns))
	}
	if fstype != "overlay" {
		return r.describe(ErrMapped)
	}
	tree, err := r.overlayMapped(userns)
	if err != nil {
		return r.describe(err)
	}
	defer unix.Close(tree)
	return r.describe(attach(tree, target))
}

func (r *request) bindMapped(userns int) error {
	flags := uint(0)
	if r.flags&unix.MS_REC != 0 {
		flags = unix.AT_RECURSIVE
	}
	tree, err := mapped(r.source, flags, userns)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := attach(tree, r.target); err != nil {
		return err
	}
	if err := r.remount(); err != nil {
		return errors.Join(err, unix.Unmount(r.target, unix.MNT_DETACH))
	}
	return nil
}

// overlayMapped returns the overlay as a mount that is attached nowhere.
func (r *request) overlayMapped(userns int) (tree int, err error) {
	err = onThread(func() (err error) {
		tree, err = r.overlayInPrivate(userns)
		return err
	})
	return tree, err
}

// overlayInPrivate makes the overlay where nobody sees its mapped layers: in a mount namespace of its own, which is gone with
// the calling thread. There each lower folder is covered by its mapped self, so that the overlay's options stay as they are.
func (r *request) overlayInPrivate(userns int) (tree int, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	// Nothing done here reaches the host; what the host unmounts is not kept busy by its copy here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return -1, fmt.Errorf("make mounts slaves: %w", err)
	}
	for _, o := range r.options {
		if list, ok := strings.CutPrefix(o, "lowerdir="); ok {
			err = cover(splitPaths(list), userns)
		} else if path, ok := strings.CutPrefix(o, "upperdir="); ok {
			err = give(unescape(path), userns)
		}
		if err != nil {
			return -1, err
		}
	}
	if r.long() {
		err = r.mountLong()
	} else {
		err = r.mount()
	}
	if errors.Is(err, unix.EINVAL) { // what overlay says to a mapped layer before 5.19
		err = fmt.Errorf("%w: %w", ErrMapped, err)
	}
	if err != nil {
		return -1, err
	}
	tree, err = unix.OpenTree(unix.AT_FDCWD, r.target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree %s: %w", r.target, err)
	}
	return tree, nil
}

func cover(folders []string, userns int) error {
	for _, path := range folders {
		tree, err := mapped(path, 0, userns)
		if err != nil {
			return err
		}
		err = attach(tree, path)
		unix.Close(tree)
		if err != nil {
			return err
		}
	}
	return nil
}

// give makes the namespace's root the owner of a folder that belongs to the host's. Once it has another owner the container
// decides.
func give(path string, userns int) error {
	var now, then unix.Stat_t
	if err := unix.Lstat(path, &now); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if now.Uid != 0 {
		return nil
	}
	tree, err := mapped(path, 0, userns)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.Fstat(tree, &then); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := unix.Lchown(path, int(then.Uid), int(then.Gid)); err != nil {
		return fmt.Errorf("chown %s: %w", path, err)
	}
	return nil
}

// mapped is a copy of the mount that path lies on, from path on, attached nowhere and mapped by the user namespace.
func mapped(path string, flags uint, userns int) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err == nil {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)})
		if err != nil {
			unix.Close(tree)
		}
	}
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return -1, fmt.Errorf("%s: %w: %w", path, ErrMapped, err)
	case err != nil:
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	return tree, nil
}

func attach(tree int, target string) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// splitPaths takes a lowerdir option apart. A backslash takes the meaning of what follows.
func splitPaths(list string) (paths []string) {
	start := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '\\':
			i++
		case ':':
			paths = append(paths, unescape(list[start:i]))
			start = i + 1
		}
	}
	return append(paths, unescape(list[start:]))
}

func unescape(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+1 < len(path) {
			i++
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
