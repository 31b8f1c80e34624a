package reconciler

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

// inotify watches folders. Package fsnotify would report every write to them, and so every line of a container's log: here
// each folder says what it is watched for.
type inotify struct {
	file *os.File

	mu   sync.Mutex
	dirs map[int32]string
	wds  map[string]int32
}

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return &inotify{file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}, wds: map[string]int32{}}, nil
}

// What a folder is watched for: what comes and goes, also the folder itself; what was written; what is written while it is
// written, for files that are not kept open.
const (
	forEntries = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	forContent = forEntries | unix.IN_CLOSE_WRITE
	forLimits  = unix.IN_MODIFY | unix.IN_ONLYDIR
)

// add watches a folder. One that is not there is watched by who adds its parent.
func (n *inotify) add(dir string, mask uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	wd, err := unix.InotifyAddWatch(int(n.file.Fd()), dir, mask)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	n.dirs[int32(wd)], n.wds[dir] = dir, int32(wd)
	return nil
}

// remove ends the watch of a folder that is about to go, so that its going is no news.
func (n *inotify) remove(dir string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if wd, ok := n.wds[dir]; ok {
		_, _ = unix.InotifyRmWatch(int(n.file.Fd()), uint32(wd)) // it may be gone already
		delete(n.wds, dir)
	}
}

// follow calls on for each event, with the path that it is about, until the watch is closed. lost says that events were lost.
func (n *inotify) follow(on func(path string, mask uint32), lost func()) {
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
				if n.wds[dir] == e.Wd {
					delete(n.wds, dir)
				}
			}
			n.mu.Unlock()
			if known && e.Mask&unix.IN_IGNORED == 0 {
				on(filepath.Join(dir, name), e.Mask)
			}
		}
	}
}

func (n *inotify) close() { n.file.Close() }
