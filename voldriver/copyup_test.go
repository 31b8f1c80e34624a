package voldriver_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

var old = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// imageTree makes a root file system with one of everything at /srv/data, which /data leads to by an absolute link.
func imageTree(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	data := filepath.Join(root, "srv/data")
	must(t, os.MkdirAll(filepath.Join(data, "dir"), 0o755))
	must(t, os.Symlink("/srv/data", filepath.Join(root, "data")))
	write(t, filepath.Join(data, "file"), "content")
	must(t, os.Chmod(filepath.Join(data, "file"), 0o4751))
	must(t, os.Lchown(filepath.Join(data, "file"), 7, 8))
	must(t, os.Chmod(filepath.Join(data, "file"), 0o751|os.ModeSetuid)) // chown took the bit away
	must(t, unix.Lsetxattr(filepath.Join(data, "file"), "user.tag", []byte("v"), 0))
	must(t, os.Link(filepath.Join(data, "file"), filepath.Join(data, "dir", "hard")))
	must(t, os.Symlink("/etc/shadow", filepath.Join(data, "soft")))
	must(t, unix.Mkfifo(filepath.Join(data, "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(data, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(t, os.Chown(data, 5, 6))
	must(t, os.Chmod(data, 0o700|os.ModeSticky))
	must(t, unix.Lsetxattr(data, "user.tag", []byte("dir"), 0))
	for _, path := range []string{"file", "dir", "."} {
		must(t, os.Chtimes(filepath.Join(data, path), old, old))
	}
	return root
}

func lstat(t *testing.T, path string) (os.FileInfo, *syscall.Stat_t) {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	return st, st.Sys().(*syscall.Stat_t)
}

// checkCopy sees that all of imageTree is there.
func checkCopy(t *testing.T, v voldriver.Volume) {
	t.Helper()
	file := filepath.Join(v.Mountpoint, "file")
	st, sys := lstat(t, file)
	if text, _ := os.ReadFile(file); string(text) != "content" || st.Mode() != 0o751|os.ModeSetuid || sys.Uid != 7 || sys.Gid != 8 || !st.ModTime().Equal(old) {
		t.Errorf("file: %q %v %d:%d %v", text, st.Mode(), sys.Uid, sys.Gid, st.ModTime())
	}
	tag := make([]byte, 10)
	if n, err := unix.Lgetxattr(file, "user.tag", tag); err != nil || string(tag[:n]) != "v" {
		t.Errorf("extended attribute: %q, %v", tag[:max(n, 0)], err)
	}
	if _, hard := lstat(t, filepath.Join(v.Mountpoint, "dir/hard")); hard.Ino != sys.Ino {
		t.Error("the hard link is a copy")
	}
	if st, _ := lstat(t, filepath.Join(v.Mountpoint, "dir")); !st.ModTime().Equal(old) {
		t.Errorf("the folder's time is %v", st.ModTime())
	}
	if to, _ := os.Readlink(filepath.Join(v.Mountpoint, "soft")); to != "/etc/shadow" {
		t.Errorf("the link leads to %q", to)
	}
	if st, _ := lstat(t, filepath.Join(v.Mountpoint, "fifo")); st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("fifo: %v", st.Mode())
	}
	if st, sys := lstat(t, filepath.Join(v.Mountpoint, "zero")); st.Mode()&os.ModeCharDevice == 0 || sys.Rdev != unix.Mkdev(1, 5) {
		t.Errorf("device: %v %x", st.Mode(), sys.Rdev)
	}
	root, sys := lstat(t, v.Mountpoint)
	if root.Mode() != os.ModeDir|os.ModeSticky|0o700 || sys.Uid != 5 || sys.Gid != 6 || !root.ModTime().Equal(old) {
		t.Errorf("the volume: %v %d:%d %v", root.Mode(), sys.Uid, sys.Gid, root.ModTime())
	}
	if n, err := unix.Lgetxattr(v.Mountpoint, "user.tag", tag); err != nil || string(tag[:n]) != "dir" {
		t.Errorf("extended attribute of the volume: %q, %v", tag[:max(n, 0)], err)
	}
	for _, dir := range []string{v.Mountpoint, filepath.Dir(v.Mountpoint)} {
		if left, _ := filepath.Glob(filepath.Join(dir, ".stack-*")); left != nil {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestCopyUp(t *testing.T) {
	root := imageTree(t)
	for name, options := range map[string]map[string]string{
		"plain":  nil,
		"memory": {"type": "tmpfs", "device": "tmpfs"}, // the copy can't be staged beside the volume
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			v := ensure(t, s, voldriver.Volume{Name: "data", Options: options})
			m, err := s.Resolve(ctx, voldriver.Scope{ContainerID: "c"}, spec.Mount{Type: "volume", Source: "data", Target: "/data"})
			must(t, err)
			defer s.ReleaseUser(ctx, "c")
			before, _ := lstat(t, v.Mountpoint)
			must(t, s.CopyUp(ctx, m.Volume, root, m.Destination))
			checkCopy(t, v)
			if after, _ := lstat(t, v.Mountpoint); !os.SameFile(before, after) {
				t.Error("whoever has the volume mounted does not see the copy")
			}
			// It is not filled again, even when it is emptied.
			must(t, os.Remove(filepath.Join(v.Mountpoint, "file")))
			must(t, s.CopyUp(ctx, m.Volume, root, m.Destination))
			if _, err := os.Stat(filepath.Join(v.Mountpoint, "file")); err == nil {
				t.Error("filled twice")
			}
			if m, err := s.Resolve(ctx, voldriver.Scope{ContainerID: "c"}, spec.Mount{Type: "volume", Source: "data", Target: "/data"}); err != nil || m.CopyUp {
				t.Errorf("it still wants to be filled: %v", err)
			}
		})
	}
}

func TestCopyUpGoesOnAfterACrash(t *testing.T) {
	root := imageTree(t)
	for name, crash := range map[string]func(t *testing.T, folder string){
		"while copying": func(t *testing.T, folder string) {
			must(t, os.MkdirAll(filepath.Join(folder, ".stack-copy", "dir", "half"), 0o755))
		},
		"while moving": func(t *testing.T, folder string) {
			// Let it copy everything elsewhere, and put half of that back to where it was on the way.
			s := open(t, t.TempDir())
			v := ensure(t, s, voldriver.Volume{Name: "other"})
			must(t, s.CopyUp(ctx, "other", root, "/data"))
			must(t, os.Rename(v.Mountpoint, filepath.Join(folder, ".stack-copied")))
			must(t, os.Rename(filepath.Join(folder, ".stack-copied", "soft"), filepath.Join(folder, "_data", "soft")))
			must(t, os.Rename(filepath.Join(folder, ".stack-copied", "fifo"), filepath.Join(folder, "_data", "fifo")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			v := ensure(t, s, voldriver.Volume{Name: "data"})
			crash(t, filepath.Join(s.Root, "data"))
			must(t, s.CopyUp(ctx, "data", root, "/data"))
			checkCopy(t, v)
		})
	}
}

func TestCopyUpGoesOnAfterACrashWhereItIsStagedInTheVolume(t *testing.T) {
	root := imageTree(t)
	s := open(t, t.TempDir())
	v := ensure(t, s, voldriver.Volume{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	_, err := s.Acquire(ctx, "data", "c")
	must(t, err)
	defer s.ReleaseUser(ctx, "c")
	must(t, os.MkdirAll(filepath.Join(v.Mountpoint, ".stack-copy", "dir", "half"), 0o755))
	must(t, os.Mkdir(filepath.Join(v.Mountpoint, "lost+found"), 0o700)) // as a new ext4 has it
	must(t, s.CopyUp(ctx, "data", root, "/data"))
	checkCopy(t, v)
}

func TestCopyUpLeavesAlone(t *testing.T) {
	root := imageTree(t)
	s := open(t, t.TempDir())
	v := ensure(t, s, voldriver.Volume{Name: "data"})

	// The image has nothing there, or no folder: another image may.
	for _, target := range []string{"/none", "/srv/data/file"} {
		must(t, s.CopyUp(ctx, "data", root, target))
		if got, _ := s.Get("data"); got.Populated {
			t.Errorf("%s: filled with nothing", target)
		}
	}
	// The volume has content.
	write(t, filepath.Join(v.Mountpoint, "mine"), "x")
	must(t, s.CopyUp(ctx, "data", root, "/data"))
	if entries, _ := os.ReadDir(v.Mountpoint); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
	// The user does not want it.
	v = ensure(t, s, voldriver.Volume{Name: "empty"})
	must(t, s.SkipCopyUp(ctx, "empty"))
	must(t, s.CopyUp(ctx, "empty", root, "/data"))
	if entries, _ := os.ReadDir(v.Mountpoint); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
	if err := s.CopyUp(ctx, "none", root, "/data"); !errors.Is(err, voldriver.ErrNotFound) {
		t.Error(err)
	}
}
