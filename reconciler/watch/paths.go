package watch

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// isBelow tells whether path is dir or below it; both are clean and absolute.
func isBelow(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// stamp is what tells that a file is another one than before.
type stamp struct {
	mode         fs.FileMode
	size         int64
	inode        uint64
	mtime, ctime syscall.Timespec
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{mode: info.Mode(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.mtime, s.ctime = st.Ino, st.Mtim, st.Ctim
	}
	if info.IsDir() { // what is in it counts for itself
		s.size, s.mtime, s.ctime = 0, syscall.Timespec{}, syscall.Timespec{}
	}
	return s
}

// existing is the path, or the closest folder above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}
