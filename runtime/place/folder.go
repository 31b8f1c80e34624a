package place

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// folders opens folders below a root; the last one stays open for the next path in it.
type folders struct {
	root int
	name string
	fd   int
}

func (f *folders) open(name string) (int, error) {
	if f.fd >= 0 && f.name == name {
		return f.fd, nil
	}
	fd, err := openBelow(f.root, name)
	if err != nil {
		return -1, err
	}
	f.close()
	f.name, f.fd = name, fd
	return fd, nil
}

func (f *folders) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// openBelow opens a folder with root as the root of all links and of `..`.
func openBelow(root int, name string) (int, error) {
	for {
		fd, err := unix.Openat2(root, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		// EAGAIN: something was renamed meanwhile, and the kernel can't be sure to have stayed below root.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// parent opens the folder that a target is in, and makes what is missing of it.
func (w *worker) parent(rel, target string) (int, error) {
	dir := path.Dir(target)
	fd, err := w.sinks.open(dir)
	if !absent(err) {
		return fd, err
	}
	if err := w.makeAll(dir, rel == "" || path.Dir(rel) == "."); err != nil {
		return -1, err
	}
	return w.sinks.open(dir)
}

// makeAll makes a folder of the container and those above it. Below the set's own target a file that is in the way gives
// way, since on the host there is a folder; above it the image's author has the say.
func (w *worker) makeAll(dir string, above bool) error {
	if dir == "/" {
		return unix.ENOENT
	}
	up, err := openBelow(w.sinks.root, path.Dir(dir))
	if absent(err) {
		if err := w.makeAll(path.Dir(dir), above || !strings.HasPrefix(path.Dir(dir), w.set.Target+"/")); err != nil {
			return err
		}
		up, err = openBelow(w.sinks.root, path.Dir(dir))
	}
	if err != nil {
		return err
	}
	defer unix.Close(up)
	err = unix.Mkdirat(up, path.Base(dir), w.modeOf(dir))
	if errors.Is(err, unix.EEXIST) && !above {
		if err = unix.Unlinkat(up, path.Base(dir), 0); err == nil {
			err = unix.Mkdirat(up, path.Base(dir), w.modeOf(dir))
		}
	}
	if err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	w.report.Written++
	return nil
}

// modeOf is the mode of the host's folder that stands for one in the container.
func (w *worker) modeOf(dir string) uint32 {
	if rel, below := strings.CutPrefix(dir, w.set.Target); below && (rel == "" || rel[0] == '/') {
		if fd, err := openBelow(w.sources.root, path.Join(w.set.Source, rel)); err == nil {
			defer unix.Close(fd)
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil {
				return st.Mode & 0o7777
			}
		}
	}
	return 0o755
}

// folder makes a folder, or gives it the host's mode. The set's own target may be a link to one: the image has put it there.
func (w *worker) folder(rel, target string, source *unix.Stat_t) error {
	if target == "/" {
		w.report.Unchanged++
		return nil
	}
	up, err := w.parent(rel, target)
	if err != nil {
		return err
	}
	name := path.Base(target)
	var st unix.Stat_t
	err = unix.Fstatat(up, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && rel == "" && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		fd, linkErr := openBelow(w.sinks.root, target)
		if linkErr == nil {
			unix.Close(fd)
			w.report.Unchanged++
			return nil
		}
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err = unix.Unlinkat(up, name, 0); err != nil {
			return err
		}
		err = unix.ENOENT
	}
	if absent(err) {
		if err = unix.Mkdirat(up, name, 0o700); err == nil {
			err = chmod(up, name, unix.S_IFDIR, source.Mode&0o7777)
		}
		w.report.Written++
		return err
	}
	if err != nil {
		return err
	}
	if st.Mode == source.Mode {
		w.report.Unchanged++
		return nil
	}
	w.report.Written++
	return chmod(up, name, unix.S_IFDIR, source.Mode&0o7777)
}

// link makes a symbolic link with the host's text, wherever that leads.
func (w *worker) link(rel, source, target string, from int) error {
	text, err := readlink(from, path.Base(source))
	if absent(err) {
		return w.remove(rel, target)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	up, err := w.parent(rel, target)
	if err != nil {
		return err
	}
	name := path.Base(target)
	if old, err := readlink(up, name); err == nil && old == text {
		w.report.Unchanged++
		return nil
	}
	err = w.renamed(up, name, func(temporary string) error { return unix.Symlinkat(text, up, temporary) })
	if err == nil {
		w.report.Written++
	}
	return err
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// renamed has make put something under a temporary name, and then renames it over name. A name that a killed daemon left
// behind is taken away: only one Apply at a time works on a container.
func (w *worker) renamed(dir int, name string, make func(temporary string) error) error {
	temporary := temporaryName(name, w.set.mark)
	err := make(temporary)
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(dir, temporary, 0); err == nil {
			err = make(temporary)
		}
	}
	if err != nil {
		unix.Unlinkat(dir, temporary, 0) // it may not have come so far
		return err
	}
	err = unix.Renameat(dir, temporary, dir, name)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = w.removeAll(dir, name, nil, ""); err == nil {
			err = unix.Renameat(dir, temporary, dir, name)
		}
	}
	if err != nil {
		unix.Unlinkat(dir, temporary, 0)
	}
	return err
}

// temporaryName is hidden, and the same for the same name; long names are cut, as the kernel has a limit.
func temporaryName(name, mark string) string {
	return "." + name[:min(len(name), 200)] + ".stack-" + mark
}

// remove removes what the host has no more, folders with all in them.
func (w *worker) remove(rel, target string) error {
	if target == "/" {
		return nil
	}
	up, err := w.sinks.open(path.Dir(target))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.removeAll(up, path.Base(target), w.set.Keep, rel)
}

// removeAll removes a name and what is below it, but neither what keep keeps nor what is mounted there.
func (w *worker) removeAll(dir int, name string, keep func(string) bool, rel string) error {
	if keep != nil && rel != "" && keep(rel) {
		return nil
	}
	err := unix.Unlinkat(dir, name, 0)
	switch {
	case err == nil:
		w.report.Removed++
		return nil
	case absent(err), errors.Is(err, unix.EBUSY): // a mounted file stays
		return nil
	case !errors.Is(err, unix.EISDIR):
		return err
	}
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH,
	})
	if absent(err) || errors.Is(err, unix.EXDEV) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := w.removeAll(fd, n, keep, path.Join(rel, n)); err != nil {
			return err
		}
	}
	err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	switch {
	case err == nil:
		w.report.Removed++
	case absent(err), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EBUSY): // something in it was kept
		return nil
	}
	return err
}
