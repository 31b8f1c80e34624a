// Package rootmount mounts what image.Rootfs returns. It depends on nothing but system calls, so that small programs can
// use it.
package rootmount

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

var flags = map[string]uintptr{
	"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID,
	"nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME,
}

// Mount mounts source on target. Options are those of mount(8) that name a flag above; "rw" is the default; the rest goes
// to the filesystem. The list of an overlay's lower folders may be longer than the page mount(2) takes.
func Mount(fstype, source, target string, options []string) error {
	var set uintptr
	var rest []string
	for _, o := range options {
		if f, ok := flags[o]; ok {
			set |= f
		} else if o != "rw" {
			rest = append(rest, o)
		}
	}
	data := strings.Join(rest, ",")
	var err error
	if fstype == "overlay" && len(data) >= unix.Getpagesize() {
		err = mountShortened(source, target, set, rest)
	} else {
		err = mount(source, target, fstype, set, data)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, target, err)
	}
	return nil
}

func mount(source, target, fstype string, set uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, set, data); err != nil {
		return err
	}
	// A bind takes no other flags in the same call.
	const once = unix.MS_BIND | unix.MS_REC
	if set&unix.MS_BIND == 0 || set&^once == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", set&^uintptr(unix.MS_REC)|unix.MS_REMOUNT, ""); err != nil {
		unix.Unmount(target, unix.MNT_DETACH)
		return err
	}
	return nil
}

// mountShortened gives the lower folders relative to the one they all lie in, from a thread whose working directory that is.
func mountShortened(source, target string, set uintptr, options []string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	options, common := relative(options)
	if common == "" {
		return unix.E2BIG
	}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its working directory with it.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Chdir(common); err != nil {
				return err
			}
			return unix.Mount(source, target, "overlay", set, strings.Join(options, ","))
		}()
	}()
	return <-done
}

// relative rewrites lowerdir against the deepest folder that holds all of them; common is empty if there is none. Paths with
// escaped colons are left alone.
func relative(options []string) (short []string, common string) {
	for _, o := range options {
		list, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok || strings.Contains(list, `\`) {
			short = append(short, o)
			continue
		}
		dirs := strings.Split(list, ":")
		common = filepath.Dir(dirs[0])
		for _, d := range dirs {
			for common != "/" && !strings.HasPrefix(d, common+"/") {
				common = filepath.Dir(common)
			}
		}
		for i, d := range dirs {
			dirs[i] = strings.TrimPrefix(strings.TrimPrefix(d, common), "/")
		}
		short = append(short, "lowerdir="+strings.Join(dirs, ":"))
	}
	return short, common
}
