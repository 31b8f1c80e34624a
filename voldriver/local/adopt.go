package local

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/voldriver"
)

// sole tells whether a second mount of a volume's data would be something else than the first: not of another folder, and not
// of what a server has.
func sole(v voldriver.Volume) bool {
	return v.Options["type"] == "tmpfs" || strings.HasPrefix(v.Options["device"], "/") && !slices.Contains(flags(v), "bind") && !slices.Contains(flags(v), "rbind")
}

func flags(v voldriver.Volume) []string { return strings.Split(v.Options["o"], ",") }

// Identify implements voldriver.Adopter.
func (b Backend) Identify(v voldriver.Volume) (what voldriver.Identity) {
	if attached, err := b.Attached(v); err != nil || !attached || !sole(v) {
		return what
	}
	var st unix.Stat_t
	if err := unix.Lstat(v.Mountpoint, &st); err != nil {
		return what
	}
	return voldriver.Identity{Device: st.Dev, Inode: st.Ino}
}

// Adopt implements voldriver.Adopter.
func (b Backend) Adopt(v voldriver.Volume, what voldriver.Identity, pids []int) (bool, error) {
	if attached, err := b.Attached(v); err != nil || attached {
		return false, err
	}
	for _, pid := range pids {
		tree, err := take(pid, v.Options["type"], what)
		if errors.Is(err, errElsewhere) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the process may have ended
			continue
		}
		if err != nil {
			return false, fmt.Errorf("process %d: %w", pid, err)
		}
		err = hang(tree, v)
		unix.Close(tree)
		return err == nil, err
	}
	return false, nil
}

var errElsewhere = errors.New("it is mounted nowhere")

// take returns a copy of a process's mount that is attached nowhere. The process may be hostile: what it has is taken by what it
// is, not by its path, and nothing but mounts of the right type is looked at.
func take(pid int, fstype string, what voldriver.Identity) (tree int, err error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	table, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return -1, err
	}
	defer table.Close()
	mounts, err := mountinfo.GetMountsFromReader(table, nil)
	if err != nil {
		return -1, err
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter its mount namespace: %w", err)
		}
		for _, m := range mounts {
			if m.FSType != fstype || strings.Contains(","+m.Options+",", ",idmapped,") {
				continue
			}
			if tree, err = clone(m.Mountpoint, what); err == nil || !errors.Is(err, errElsewhere) {
				return err
			}
		}
		return errElsewhere
	})
	return tree, err
}

// onThread runs f on a thread that ends with it. The first one can't end: what others see of the process in /proc is of that.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // on another one, as this is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked
	}()
	return <-done
}

// clone copies the mount at a path of the calling thread's mount namespace, if it is the right one.
func clone(path string, what voldriver.Identity) (tree int, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, errElsewhere // covered by another mount, or gone
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != what.Device || st.Ino != what.Inode {
		return -1, errElsewhere
	}
	if tree, err = unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("copy its mount %s: %w", path, err)
	}
	return tree, nil
}

// hang mounts a copy at the volume's place; read-only only where the volume is, not where the container asked for that.
func hang(tree int, v voldriver.Volume) error {
	if !slices.Contains(flags(v), "ro") {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("make it writable: %w", err)
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, v.Mountpoint, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move mount to", Path: v.Mountpoint, Err: err}
	}
	return nil
}
