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

// flags are the options of mount(8) that are flags of mount(2): set, or taken away with clear.
var flags = map[string]struct {
	bits  uintptr
	clear bool
}{
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false}, "defaults": {},
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true}, "dirsync": {unix.MS_DIRSYNC, false},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true}, "nodiratime": {unix.MS_NODIRATIME, false},
	"relatime": {unix.MS_RELATIME, false}, "strictatime": {unix.MS_STRICTATIME, false},
}

// request is one mount(2): options are what is left for the filesystem.
type request struct {
	fstype, source, target string
	flags                  uintptr
	options                []string
}

func parse(fstype, source, target string, options []string) request {
	r := request{fstype: fstype, source: source, target: target}
	for _, o := range options {
		if f, ok := flags[o]; !ok {
			r.options = append(r.options, o)
		} else if f.clear {
			r.flags &^= f.bits
		} else {
			r.flags |= f.bits
		}
	}
	return r
}

// Mount mounts source on target. Options are those of mount(8) that name a flag above; the rest goes to the filesystem. The
// list of an overlay's lower folders may be longer than the page mount(2) takes.
func Mount(fstype, source, target string, options []string) error {
	r := parse(fstype, source, target, options)
	var err error
	if r.long() {
		err = onThread(r.mountLong)
	} else {
		err = r.mount()
	}
	return r.describe(err)
}

func (r *request) describe(err error) error {
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", r.fstype, r.target, err)
	}
	return nil
}

func (r *request) data() string { return strings.Join(r.options, ",") }

func (r *request) long() bool { return len(r.data()) >= unix.Getpagesize() }

func (r *request) mount() error {
	if err := unix.Mount(r.source, r.target, r.fstype, r.flags, r.data()); err != nil {
		return err
	}
	if r.flags&unix.MS_BIND == 0 {
		return nil
	}
	if err := r.remount(); err != nil {
		_ = unix.Unmount(r.target, unix.MNT_DETACH)
		return err
	}
	return nil
}

// remount gives a bind its flags, which the call that makes it does not take.
func (r *request) remount() error {
	set := r.flags &^ (unix.MS_BIND | unix.MS_REC)
	if set == 0 {
		return nil
	}
	return unix.Mount("", r.target, "", set|unix.MS_BIND|unix.MS_REMOUNT, "")
}

// mountLong gives the lower folders relative to the one they all lie in. It changes its thread's working directory to that.
func (r *request) mountLong() error {
	target, err := filepath.Abs(r.target)
	if err != nil {
		return err
	}
	options, common := relative(r.options)
	if common == "" || len(strings.Join(options, ",")) >= unix.Getpagesize() {
		return unix.E2BIG
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Chdir(common); err != nil {
		return err
	}
	return unix.Mount(r.source, target, r.fstype, r.flags, strings.Join(options, ","))
}

// onThread runs f on a thread that ends with it, so that f may change the thread's working directory and namespaces. That is
// any but the process's first one, which Go never ends.
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
