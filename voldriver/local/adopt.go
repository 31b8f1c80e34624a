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
// of what a server has (//SERVER/SHARE is one).
func sole(v voldriver.Volume) bool {
	if v.Options["type"] == "tmpfs" {
		return true
	}
	device := v.Options["device"]
	own := strings.HasPrefix(device, "/") && !strings.HasPrefix(device, "//")
	return own && !slices.Contains(flags(v), "bind") && !slices.Contains(flags(v), "rbind")
}

func flags(v voldriver.Volume) []string {
	all := strings.Split(v.Options["o"], ",")
	for i, flag := range all {
		all[i] = strings.TrimSpace(flag)
	}
	return all
}

// Identify implements voldriver.Adopter.
func (b Backend) Identify(v voldriver.Volume) (what voldriver.Identity) {
	if !sole(v) {
		return what // and no server is asked: it may be dead
	}
	if attached, err := b.Attached(v); err != nil || !attached {
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
	var refused error
	for _, pid := range pids {
		tree, err := take(pid, v.Options["type"], what)
		if errors.Is(err, errElsewhere) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the process may have ended
			continue
		}
		if err != nil { // by its own doing, perhaps: another one may have it still
			refused = errors.Join(refused, fmt.Errorf("process %d: %w", pid, err))
			continue
		}
		err = hang(tree, v)
		unix.Close(tree)
		return err == nil, err
	}
	return false, refused
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
		refused := errElsewhere
		for _, m := range mounts {
			if m.FSType != fstype || strings.Contains(","+m.Options+",", ",idmapped,") {
				continue
			}
			if tree, err = clone(m.Mountpoint, what); err == nil {
				return nil
			} else if !errors.Is(err, errElsewhere) {
				refused = err
			}
		}
		return refused
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

// restrictions are what a mount can be kept from, by the options of mount(8).
var restrictions = map[string]uint64{
	"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV, "noexec": unix.MOUNT_ATTR_NOEXEC,
}

// hang mounts a copy at the volume's place. Nothing but the data is the container's from then on: restrictions are those of the
// volume, and what the container mounts below its own stays there.
func hang(tree int, v voldriver.Volume) error {
	as := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	for option, flag := range restrictions {
		as.Attr_clr |= flag
		if slices.Contains(flags(v), option) {
			as.Attr_set |= flag
		}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &as); err != nil {
		return fmt.Errorf("make it the volume's own: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, v.Mountpoint, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move mount to", Path: v.Mountpoint, Err: err}
	}
	return nil
}
