package place

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// block is what is read and compared at once.
	block = 128 << 10
	// patched is the size from which a file is not written anew where its old blocks can be shared.
	patched = 8 << 20
	// attempts bound how often a file that changes while it is copied is begun again; its next change comes as an event.
	attempts = 5
)

// file makes a file equal to the host's, which was found to be like seen.
func (w *worker) file(rel, source, target string, from int, seen *unix.Stat_t) error {
	up, err := w.parent(rel, target)
	if err != nil {
		return err
	}
	name := path.Base(target)
	var old unix.Stat_t
	err = unix.Fstatat(up, name, &old, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !absent(err) {
		return err
	}
	exists := err == nil && old.Mode&unix.S_IFMT == unix.S_IFREG
	if exists && same(seen, &old) {
		w.report.Unchanged++
		return nil
	}
	in, err := openFile(from, path.Base(source))
	if absent(err) {
		return w.remove(rel, target)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // it became something else just now, and comes again as that
	}
	if w.buf == nil {
		w.buf = make([]byte, 2*block)
	}
	if exists && old.Size == st.Size && w.equal(in, up, name) {
		return w.touch(up, name, &st, &old)
	}
	err = w.renamed(up, name, func(temporary string) error {
		out, err := unix.Openat(up, temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(out)
		return w.write(in, out, &st, up, name)
	})
	if err != nil {
		return err
	}
	w.report.Written++
	w.report.Bytes += st.Size
	return nil
}

// openFile opens what was a file a moment ago: what is a pipe by now must not hold us up.
func openFile(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// write copies content, mode and time, again when the source changed meanwhile.
func (w *worker) write(in, out int, st *unix.Stat_t, dir int, name string) error {
	for try := 1; ; try++ {
		if try > 1 {
			if err := unix.Ftruncate(out, 0); err != nil {
				return err
			}
		}
		if err := w.copy(in, out, st, dir, name); err != nil {
			return err
		}
		before := *st
		if err := unix.Fstat(in, st); err != nil {
			return err
		}
		if try < attempts && (before.Size != st.Size || before.Mtim != st.Mtim) {
			continue
		}
		if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
			return err
		}
		return setTime(out, st.Mtim)
	}
}

// setTime is futimens, which unix knows for paths only.
func setTime(fd int, to unix.Timespec) error {
	times := [2]unix.Timespec{to, to}
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// equal compares a file with the one that is in its place.
func (w *worker) equal(in, dir int, name string) bool {
	old, err := openFile(dir, name)
	if err != nil {
		return false
	}
	defer unix.Close(old)
	a, b := w.buf[:block], w.buf[block:]
	for offset := int64(0); ; offset += block {
		n, err := read(in, a, offset)
		m, oldErr := read(old, b, offset)
		if err != nil || oldErr != nil || n != m || !bytes.Equal(a[:n], b[:m]) {
			return false
		}
		if n < block {
			return true
		}
	}
}

// touch gives a file that has the right content the host's mode and time.
func (w *worker) touch(dir int, name string, st, old *unix.Stat_t) error {
	if old.Mode == st.Mode {
		w.report.Unchanged++
	} else {
		if err := chmod(dir, name, unix.S_IFREG, st.Mode&0o7777); err != nil {
			return err
		}
		w.report.Written++
	}
	if old.Mtim == st.Mtim {
		return nil
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copy fills an empty file in the way that costs least: sharing blocks where the file systems can, leaving holes where the
// source has them.
func (w *worker) copy(in, out int, st *unix.Stat_t, dir int, name string) error {
	if st.Size <= block {
		n, err := read(in, w.buf[:st.Size], 0)
		if err != nil {
			return err
		}
		return write(out, w.buf[:n], 0)
	}
	if unix.IoctlFileClone(out, in) == nil {
		return nil
	}
	if st.Size >= patched && clone(out, dir, name) {
		if err := w.patch(in, out); err != nil {
			return err
		}
		return unix.Ftruncate(out, st.Size)
	}
	for offset := int64(0); offset < st.Size; {
		data, err := unix.Seek(in, offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole follows
		}
		hole := st.Size
		if err != nil {
			data = offset // a file system that does not know
		} else if hole, err = unix.Seek(in, data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if offset, err = w.copyRange(in, out, data, min(hole, st.Size)); err != nil {
			return err
		}
	}
	return unix.Ftruncate(out, st.Size)
}

// copyRange copies from offset to end and returns where it came to.
func (w *worker) copyRange(in, out int, offset, end int64) (int64, error) {
	for offset < end {
		to := offset
		if n, err := unix.CopyFileRange(in, &offset, out, &to, int(min(end-offset, 1<<30)), 0); err == nil && n > 0 {
			continue // the kernel moved offset
		}
		n, err := read(in, w.buf[:min(int64(len(w.buf)), end-offset)], offset)
		if err != nil {
			return offset, err
		}
		if n == 0 {
			return end, nil // the source has shrunk
		}
		if err := write(out, w.buf[:n], offset); err != nil {
			return offset, err
		}
		offset += int64(n)
	}
	return offset, nil
}

// clone makes out share the blocks of the file it is going to replace.
func clone(out, dir int, name string) bool {
	old, err := openFile(dir, name)
	if err != nil {
		return false
	}
	defer unix.Close(old)
	return unix.IoctlFileClone(out, old) == nil
}

// patch writes the blocks of out that differ from those of in.
func (w *worker) patch(in, out int) error {
	a, b := w.buf[:block], w.buf[block:]
	for offset := int64(0); ; offset += block {
		n, err := read(in, a, offset)
		if err != nil {
			return err
		}
		m, err := read(out, b, offset)
		if err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:min(n, m)]) {
			if err := write(out, a[:n], offset); err != nil {
				return err
			}
		}
		if n < block {
			return nil
		}
	}
}

// read fills buf from offset on; less comes only at the file's end.
func read(fd int, buf []byte, offset int64) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], offset+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

func write(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}
