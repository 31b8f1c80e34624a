package place_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/place"
)

// fixture is a host folder and a container's root, both on real file systems.
type fixture struct {
	t         testing.TB
	src, root string
	owner     place.Owner
	keep      func(string) bool
}

func newFixture(t testing.TB) *fixture {
	dir := t.TempDir()
	f := &fixture{t: t, src: filepath.Join(dir, "src"), root: filepath.Join(dir, "root")}
	for _, d := range []string{f.src, f.root} {
		f.must(os.Mkdir(d, 0o755))
	}
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) write(path, content string) {
	f.t.Helper()
	f.must(os.MkdirAll(filepath.Dir(path), 0o755))
	f.must(os.WriteFile(path, []byte(content), 0o644))
}

// apply places all of src, and the paths that are named besides, at target.
func (f *fixture) apply(target string, paths ...string) (place.Report, error) {
	f.t.Helper()
	if len(paths) == 0 {
		f.must(filepath.WalkDir(f.src, func(p string, _ fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(f.src, p)
			paths = append(paths, strings.TrimPrefix(rel, "."))
			return err
		}))
		for i, p := range paths {
			if rel, err := filepath.Rel(f.src, filepath.Join(f.src, p)); err == nil && rel != "." {
				paths[i] = rel
			}
		}
	}
	root, err := unix.Open(f.root, unix.O_PATH|unix.O_DIRECTORY, 0)
	f.must(err)
	defer unix.Close(root)
	from, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	f.must(err)
	defer unix.Close(from)
	return place.Apply(context.Background(), root, from, f.owner, "sync", []place.Set{{Source: f.src, Target: target, Paths: paths, Keep: f.keep}})
}

func (f *fixture) sync(target string, paths ...string) place.Report {
	f.t.Helper()
	r, err := f.apply(target, paths...)
	f.must(err)
	for _, failure := range r.Failures {
		f.t.Error(failure)
	}
	return r
}

// tree describes all below a folder: type, mode, owner, time and content.
func tree(t testing.TB, dir string, owners bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o", st.Mode)
		if owners {
			line += fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d.%d %q", st.Mtim.Sec, st.Mtim.Nsec, content)
		case unix.S_IFLNK:
			text, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + text
		}
		all[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameTree(t testing.TB, got, want string) {
	t.Helper()
	a, b := tree(t, got, false), tree(t, want, false)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] != b[name] {
			t.Errorf("%s: %.200s, want %.200s", name, a[name], b[name])
		}
		delete(b, name)
	}
	for name := range b {
		t.Errorf("%s is missing", name)
	}
}

func TestATreeBecomesEqual(t *testing.T) {
	f := newFixture(t)
	f.write(f.src+"/a.txt", "one")
	f.write(f.src+"/deep/er/b.sh", "#!/bin/sh")
	f.write(f.src+"/secret", "s")
	f.must(os.Chmod(f.src+"/deep/er/b.sh", 0o755))
	f.must(os.Chmod(f.src+"/secret", 0o4600))
	f.must(os.Mkdir(f.src+"/empty", 0o2750))
	f.must(os.Chmod(f.src+"/empty", 0o2750|fs.ModeSetgid))
	f.must(os.Symlink("../a.txt", f.src+"/deep/link"))
	f.must(os.Symlink("/etc/passwd", f.src+"/absolute"))
	f.must(os.Symlink("nowhere", f.src+"/dangling"))
	if r := f.sync("/app"); r.Written != 10 || r.Bytes != 13 {
		t.Errorf("%+v", r)
	}
	sameTree(t, f.root+"/app", f.src)
	if r := f.sync("/app"); r.Written != 0 || r.Unchanged != 10 {
		t.Errorf("a second time: %+v", r)
	}

	// Each thing becomes another, is changed, or goes.
	f.must(os.Remove(f.src + "/a.txt"))
	f.must(os.Mkdir(f.src+"/a.txt", 0o755))
	f.write(f.src+"/a.txt/inside", "x")
	f.must(os.RemoveAll(f.src + "/deep"))
	f.write(f.src+"/deep", "now a file")
	f.must(os.Remove(f.src + "/absolute"))
	f.write(f.src+"/absolute", "now a file")
	f.must(os.Remove(f.src + "/secret"))
	f.must(os.Symlink("a.txt", f.src+"/secret"))
	f.must(os.Remove(f.src + "/dangling"))
	f.must(os.Symlink("elsewhere", f.src+"/dangling"))
	f.sync("/app", "", "a.txt", "a.txt/inside", "deep", "deep/er", "deep/er/b.sh", "deep/link", "absolute", "secret", "dangling", "empty")
	sameTree(t, f.root+"/app", f.src)
}

// Two changes of a file within one tick of the clock, of the same size, must both arrive.
func TestWhatTimesDoNotTellTheContentTells(t *testing.T) {
	f := newFixture(t)
	now := time.Now()
	for _, content := range []string{"aaaa", "bbbb"} {
		f.write(f.src+"/f", content)
		f.must(os.Chtimes(f.src+"/f", now, now))
		f.sync("/app", "f")
		sameTree(t, f.root+"/app", f.src)
	}
	// Touched, it is not written anew: who has it open keeps it.
	before := inode(t, f.root+"/app/f")
	f.must(os.Chtimes(f.src+"/f", now, now.Add(time.Second)))
	f.must(os.Chmod(f.src+"/f", 0o600))
	f.sync("/app", "f")
	sameTree(t, f.root+"/app", f.src)
	if inode(t, f.root+"/app/f") != before {
		t.Error("the file was written anew")
	}
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestNoLinkLeadsOutOfTheRoot(t *testing.T) {
	f := newFixture(t)
	outside := f.t.TempDir()
	f.write(outside+"/keep", "keep")
	for name, text := range map[string]string{"absolute": outside, "up": "../../../../../../.." + outside, "magic": "/proc/self/cwd"} {
		f.must(os.Symlink(text, f.root+"/"+name))
	}
	f.must(os.MkdirAll(f.root+outside, 0o755)) // where the links lead within the root
	f.write(f.src+"/f", "content")
	for _, target := range []string{"/absolute", "/up", "/up/../absolute", "/absolute/below"} {
		f.sync(target, "f")
		f.sync(target, "gone", "keep")
	}
	if r, err := f.apply("/magic", "f"); err == nil && len(r.Failures) == 0 {
		t.Error("a link of /proc was followed")
	}
	if got := tree(t, outside, false); len(got) != 2 {
		t.Errorf("outside the root: %v", got)
	}
	// Within the root the links lead where they would lead the container's processes.
	if _, err := os.Stat(f.root + outside + "/f"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"../f", "/etc/passwd", "a/../../f", "..", ".", "a//b", "a/"} {
		if _, err := f.apply("/app", path); !errors.Is(err, place.ErrPath) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestALinkWithinTheRootIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.must(os.MkdirAll(f.root+"/srv/app", 0o755))
	f.must(os.Symlink("/srv/app", f.root+"/app"))
	f.write(f.src+"/f", "content")
	f.sync("/app")
	sameTree(t, f.root+"/srv/app", f.src)
	if text, err := os.Readlink(f.root + "/app"); err != nil || text != "/srv/app" {
		t.Errorf("the link of the image is %q, %v", text, err)
	}
}

func TestRemovalKeepsWhatIsKeptAndWhatIsMounted(t *testing.T) {
	f := newFixture(t)
	f.keep = func(path string) bool { return strings.HasSuffix(path, "node_modules") }
	for _, name := range []string{"pkg/a", "pkg/own/made-here", "pkg/node_modules/m", "pkg/volume/data"} {
		f.write(f.root+"/app/"+name, name)
	}
	f.must(unix.Mount("tmpfs", f.root+"/app/pkg/volume", "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(f.root+"/app/pkg/volume", unix.MNT_DETACH) })
	f.write(f.root+"/app/pkg/volume/mounted", "x")
	f.sync("/app", "pkg")
	got := slices.Sorted(maps.Keys(tree(t, f.root+"/app", false)))
	want := []string{".", "pkg", "pkg/node_modules", "pkg/node_modules/m", "pkg/volume", "pkg/volume/mounted"}
	if !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	f.keep = nil
	f.must(unix.Unmount(f.root+"/app/pkg/volume", 0))
	f.sync("/app", "pkg")
	if got := tree(t, f.root+"/app", false); len(got) != 1 {
		t.Errorf("left are %v", got)
	}
}

// A reader that opens the file again and again sees one version or the other, never a part.
func TestAReaderNeverSeesHalfAFile(t *testing.T) {
	f := newFixture(t)
	versions := []string{strings.Repeat("a", 3<<20), strings.Repeat("b", 2<<20)}
	f.write(f.src+"/f", versions[0])
	f.sync("/app", "f")
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			got, err := os.ReadFile(f.root + "/app/f")
			if err != nil || string(got) != versions[0] && string(got) != versions[1] {
				t.Errorf("%d bytes, %v", len(got), err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 20 {
		f.write(f.src+"/new", versions[i%2])
		f.must(os.Rename(f.src+"/new", f.src+"/f"))
		f.sync("/app", "f")
	}
	close(done)
	reader.Wait()
}

func TestFilesBelongToTheOwner(t *testing.T) {
	f := newFixture(t)
	f.owner = place.Owner{UID: 1234, GID: 567}
	f.must(os.Mkdir(f.src+"/private", 0o700))
	f.write(f.src+"/private/f", "x")
	f.must(os.Symlink("f", f.src+"/private/l"))
	f.must(os.Chmod(f.src+"/private/f", 0o400))
	f.write(f.root+"/app/private/f", "the image's, of root")
	f.must(os.Chmod(f.root+"/app/private", 0o500))
	f.sync("/app")
	for _, name := range []string{"private/f", "private/l"} {
		var st unix.Stat_t
		f.must(unix.Lstat(f.root+"/app/"+name, &st))
		if st.Uid != 1234 || st.Gid != 567 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	sameTree(t, f.root+"/app", f.src)
}

func TestAReadOnlyRootIsToldAtOnce(t *testing.T) {
	f := newFixture(t)
	f.must(unix.Mount("tmpfs", f.root, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(f.root, unix.MNT_DETACH) })
	f.must(os.Mkdir(f.root+"/app", 0o755))
	f.must(unix.Mount("", f.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for i := range 100 {
		f.write(fmt.Sprintf("%s/%d", f.src, i), "x")
	}
	if _, err := f.apply("/app"); !errors.Is(err, unix.EROFS) {
		t.Errorf("%v", err)
	}
}

func TestAFullDiskLeavesTheOldFile(t *testing.T) {
	f := newFixture(t)
	f.must(unix.Mount("tmpfs", f.root, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { unix.Unmount(f.root, unix.MNT_DETACH) })
	f.write(f.src+"/f", "old")
	f.sync("/app", "f")
	f.write(f.src+"/f", strings.Repeat("x", 1<<20))
	if _, err := f.apply("/app", "f"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	if got, err := os.ReadFile(f.root + "/app/f"); string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if got := tree(t, f.root+"/app", false); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
}

// What a killed daemon left behind is taken away by the next that places the same file.
func TestALeftoverIsReplaced(t *testing.T) {
	f := newFixture(t)
	f.write(f.src+"/f", "x")
	f.write(f.root+"/app/.f.stack-sync", "half")
	f.must(os.Symlink("l", f.src+"/l"))
	f.write(f.root+"/app/.l.stack-sync", "half")
	f.sync("/app")
	sameTree(t, f.root+"/app", f.src)
}

func TestHolesStayHoles(t *testing.T) {
	f := newFixture(t)
	file, err := os.Create(f.src + "/sparse")
	f.must(err)
	f.must(file.Truncate(256 << 20))
	for _, at := range []int64{0, 100 << 20, 256<<20 - 3} {
		_, err = file.WriteAt([]byte("abc"), at)
		f.must(err)
	}
	f.must(file.Close())
	f.must(exec.Command("truncate", "-s", "300M", f.src+"/hole").Run())
	f.sync("/app")
	for _, name := range []string{"sparse", "hole"} {
		if err := exec.Command("cmp", f.src+"/"+name, f.root+"/app/"+name).Run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Stat(f.root + "/app/" + name)
		f.must(err)
		if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks > 2048 {
			t.Errorf("%s takes %d blocks", name, blocks)
		}
	}
}

// On a file system that shares blocks, of a large file only what changed is written.
func TestOfALargeFileOnlyChangedBlocksAreWritten(t *testing.T) {
	f := newFixture(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("sh", "-c", fmt.Sprintf("truncate -s 200M %s && mkfs.btrfs -q %[1]s && mount -o loop %[1]s %s", disk, f.root)).CombinedOutput(); err != nil {
		t.Skipf("no btrfs here: %s", out)
	}
	t.Cleanup(func() { f.must(exec.Command("umount", f.root).Run()) })
	content := make([]byte, 64<<20)
	for i := range content {
		content[i] = byte(i * i >> 11)
	}
	f.must(os.WriteFile(f.src+"/big", content, 0o644))
	f.sync("/app", "big")
	unix.Sync()
	before := used(t, f.root)
	copy(content[30<<20:], "changed")
	content = append(content, "and longer"...)
	f.must(os.WriteFile(f.src+"/big", content, 0o644))
	old, err := os.Open(f.root + "/app/big") // keeps the old blocks in use
	f.must(err)
	defer old.Close()
	f.sync("/app", "big")
	unix.Sync()
	if grown := used(t, f.root) - before; grown > 8<<20 {
		t.Errorf("%d MiB more in use", grown>>20)
	}
	if got, err := os.ReadFile(f.root + "/app/big"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file differs: %v", err)
	}
}

func used(t testing.TB, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// A file that grows while it is copied is copied whole, or its next change comes as an event: never a torn one for good.
func TestAPipeInTheWayIsNoSource(t *testing.T) {
	f := newFixture(t)
	f.must(unix.Mkfifo(f.src+"/pipe", 0o644))
	if r := f.sync("/app", "pipe"); r.Skipped != 1 {
		t.Errorf("%+v", r)
	}
}

func FuzzPathsStayBelow(f *testing.F) {
	for _, s := range []string{"a", "../a", "a/../../b", "/a", "a/./b", "..", "", "a\x00b", "link/x", "up/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		x := newFixture(t)
		outside := t.TempDir()
		x.must(os.Symlink(outside, x.root+"/link"))
		x.must(os.MkdirAll(x.root+"/app", 0o755))
		x.must(os.Symlink("../../../../../../../.."+outside, x.root+"/app/up"))
		x.write(outside+"/keep", "keep")
		if _, err := x.apply("/app", path); err != nil && !errors.Is(err, place.ErrPath) {
			t.Skip() // names that no file can have
		}
		if got := tree(t, filepath.Dir(x.root), false); len(got) < 2 {
			t.Errorf("%q removed the root: %v", path, got)
		}
		if got := tree(t, outside, false); len(got) != 2 {
			t.Errorf("%q: outside the root: %v", path, got)
		}
	})
}
