package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// mountFlags are the options that mount(2) takes as flags: set, or with clear taken away.
var mountFlags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "relatime": {unix.MS_RELATIME, false},
	"strictatime": {unix.MS_STRICTATIME, false}, "dirsync": {unix.MS_DIRSYNC, false},
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false}, "defaults": {0, false},
}

// mountRootfs mounts a container's root on target, which is made when missing. What it could mount is unmounted when
// a later part fails.
func mountRootfs(target string, mounts []shim.Mount) (err error) {
	if err := os.MkdirAll(target, 0o711); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unmountRootfs(target)
		}
	}()
	for _, m := range mounts {
		if err := mountOne(target, m); err != nil {
			return fmt.Errorf("rootfs: mount %s %s: %w", m.Type, m.Source, err)
		}
	}
	return nil
}

func mountOne(target string, m shim.Mount) error {
	var flags uintptr
	var data []string
	for _, o := range m.Options {
		if f, ok := mountFlags[o]; !ok {
			data = append(data, o)
		} else if f.clear {
			flags &^= f.flag
		} else {
			flags |= f.flag
		}
	}
	if err := mountData(m, target, flags, data); err != nil {
		return err
	}
	if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 {
		return unix.Mount("", target, "", unix.MS_REMOUNT|flags&^unix.MS_REC, "")
	}
	return nil
}

// mountData calls mount(2). Options longer than the page it takes, those of an overlay with many layers, are shortened: the
// layers are named relative to the folder they have in common, on a thread that stands there.
func mountData(m shim.Mount, target string, flags uintptr, options []string) error {
	data := strings.Join(options, ",")
	if len(data) < os.Getpagesize()-1 {
		return unix.Mount(m.Source, target, m.Type, flags, data)
	}
	dir, short := shortenLayers(options)
	if data = strings.Join(short, ","); len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers: %w", strings.Count(data, ":")+1, unix.E2BIG)
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Chdir(dir); err != nil {
			return &os.PathError{Op: "chdir", Path: dir, Err: err}
		}
		return unix.Mount(m.Source, target, m.Type, flags, data)
	})
}

// shortenLayers makes the paths of lowerdir relative to the longest folder all of them are in.
func shortenLayers(options []string) (dir string, short []string) {
	dir = "/"
	for _, o := range options {
		layers, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			short = append(short, o)
			continue
		}
		paths := strings.Split(layers, ":")
		dir = filepath.Dir(paths[0])
		for _, p := range paths {
			for dir != "/" && !strings.HasPrefix(p, dir+"/") {
				dir = filepath.Dir(dir)
			}
		}
		for i, p := range paths {
			paths[i] = strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		}
		short = append(short, "lowerdir="+strings.Join(paths, ":"))
	}
	return dir, short
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
