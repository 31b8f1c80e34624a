package watch

import (
	"errors"
	"os"
	"syscall"
)

// A file that somebody still writes to is not looked at before its writer closes it. fsnotify tells of writes, but not of
// closes. Whether there is a writer the kernel tells at once: a read lease is refused while there is one. When it is gone,
// a watch of our own on that one file tells.

// written tells whether a file is open for writing. What can't be known counts as not.
func written(path string) bool {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETLEASE, syscall.F_RDLCK)
	if errno == 0 {
		syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETLEASE, syscall.F_UNLCK)
	}
	return errno == syscall.EAGAIN
}

// closings tells when files are closed by their writers.
type closings struct {
	fd   int
	file *os.File
}

func newClosings(closed func()) (*closings, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	c := &closings{fd: fd, file: os.NewFile(uintptr(fd), "inotify")}
	go func() {
		var buf [64 * (syscall.SizeofInotifyEvent + syscall.PathMax)]byte
		for {
			if _, err := c.file.Read(buf[:]); err != nil {
				return // closed
			}
			closed() // by whom doesn't matter: all that wait are looked at
		}
	}()
	return c, nil
}

// await has closed called when the file's writer closes it. It may have done so already: the caller looks once more.
func (c *closings) await(path string) error {
	_, err := syscall.InotifyAddWatch(c.fd, path, syscall.IN_CLOSE_WRITE|syscall.IN_ONESHOT|syscall.IN_DONT_FOLLOW)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

func (c *closings) close() { c.file.Close() }
