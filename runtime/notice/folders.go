// Package notice tells what anybody does to folders and to the mount table, as the kernel tells it.
package notice

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Folders are watched folders. Package fsnotify would report every write to them, and so every line of a container's log: here
// each folder says what it is watched for.
type Folders struct {
	file *os.File
	fd   int // the same: asking the file for it would make its reads block

	mu     sync.Mutex
	dirs   map[int32]string
	closed bool
}

// Open watches nothing yet.
func Open() (*Folders, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return &Folders{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, dirs: map[int32]string{}}, nil
}

// What a folder is watched for: Content is what comes and goes in it, the folder itself included, and what was written and
// closed; Writes is every write, for files that nobody keeps open.
const (
	entries = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	Content = entries | unix.IN_CLOSE_WRITE
	Writes  = unix.IN_MODIFY | unix.IN_ONLYDIR
)

// Add watches a folder. One that is not there is watched by who adds its parent.
func (n *Folders) Add(dir string, mask uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	wd, err := unix.InotifyAddWatch(n.fd, dir, mask)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	n.dirs[int32(wd)] = dir
	return nil
}

// Follow calls on for each event, with the path that it is about and whether it is a folder that has come, until Close. lost
// says that events were lost.
func (n *Folders) Follow(on func(path string, folder bool), lost func()) {
	buf := make([]byte, 64<<10)
	for {
		size, err := n.file.Read(buf)
		if err != nil {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= size; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+int(e.Len)]), "\x00")
			at += unix.SizeofInotifyEvent + int(e.Len)
			if e.Mask&unix.IN_Q_OVERFLOW != 0 {
				lost()
				continue
			}
			n.mu.Lock()
			dir, known := n.dirs[e.Wd]
			if e.Mask&unix.IN_IGNORED != 0 {
				delete(n.dirs, e.Wd)
			}
			n.mu.Unlock()
			if known && e.Mask&unix.IN_IGNORED == 0 {
				on(filepath.Join(dir, name), e.Mask&unix.IN_ISDIR != 0 && e.Mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0)
			}
		}
	}
}

// Close ends Follow.
func (n *Folders) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.file.Close()
}
