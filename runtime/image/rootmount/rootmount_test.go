package rootmount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// base is where the user namespace of the tests begins on the host.
const base = 1 << 20

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folders makes folders below a new one and returns it. As on hosts with systemd, mounts made there are made in other mount
// namespaces as well. What a test mounts on root is unmounted at its end, and nothing may be left then.
func folders(t *testing.T, names ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("mounting needs root")
	}
	dir := t.TempDir()
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	t.Cleanup(func() {
		defer unix.Unmount(dir, unix.MNT_DETACH)
		_ = unix.Unmount(filepath.Join(dir, "root"), unix.MNT_DETACH)
		if left := mountsBelow(t, dir); len(left) > 0 {
			t.Errorf("mounts left:\n%s", strings.Join(left, ""))
		}
	})
	return dir
}

func mountsBelow(t *testing.T, dir string) (found []string) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, dir+"/") {
			found = append(found, line)
		}
	}
	return found
}

func write(t *testing.T, path string, uid, gid int) {
	t.Helper()
	must(t, os.WriteFile(path, nil, 0o644))
	must(t, os.Lchown(path, uid, gid))
}

func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Uid, ":", st.Gid)
}

func owners(t *testing.T, want map[string]string) {
	t.Helper()
	for path, w := range want {
		if got := owner(t, path); got != w {
			t.Errorf("%s belongs to %s, want %s", path, got, w)
		}
	}
}

func namespace(t *testing.T) int {
	t.Helper()
	f, err := userNamespace(1 << 16)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// asRoot does something in a folder as the root of the user namespace.
func asRoot(t *testing.T, dir string, f func() error) {
	t.Helper()
	must(t, onThread(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir(dir)); err != nil {
			return err
		}
		defer unix.Chdir("/") // the thread may live a little longer
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSGID, base, 0, 0); errno != 0 {
			return errno
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, base, 0, 0); errno != 0 {
			return errno
		}
		return f()
	}))
}

func TestOverlayWithOwnersOfAUserNamespace(t *testing.T) {
	dir := folders(t, "one:,x", `two\`, "upper", "work", "root")
	write(t, filepath.Join(dir, "one:,x/a"), 0, 0)
	write(t, filepath.Join(dir, `two\`, "b"), 7, 8)
	options := []string{"lowerdir=" + escape(filepath.Join(dir, "one:,x")) + ":" + escape(filepath.Join(dir, `two\`)),
		"upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work"), "nodev"}
	root := filepath.Join(dir, "root")
	must(t, MountMapped("overlay", "overlay", root, options, namespace(t)))

	owners(t, map[string]string{root: "1048576:1048576", root + "/a": "1048576:1048576", root + "/b": "1048583:1048584"})
	if table := mountsBelow(t, dir); len(table) != 1 || !strings.Contains(table[0], "nodev") {
		t.Errorf("mount table:\n%s", strings.Join(table, ""))
	}
	asRoot(t, root, func() error {
		return errors.Join(os.WriteFile("new", nil, 0o600), os.Chmod("a", 0o600), os.Mkdir("folder", 0o700), os.Remove("folder"))
	})
	must(t, os.Lchown(root+"/b", base+1, base+1))
	owners(t, map[string]string{
		root + "/new": "1048576:1048576", dir + "/upper/a": "1048576:1048576", dir + "/upper/b": "1048577:1048577",
		dir + "/one:,x/a": "0:0", dir + `/two\/b`: "7:8",
	})

	// Mounted again it is the same, and the container's root folder keeps the owner it was given.
	must(t, unix.Unmount(root, 0))
	must(t, os.Lchown(dir+"/upper", base+5, base+6))
	must(t, MountMapped("overlay", "overlay", root, options, namespace(t)))
	owners(t, map[string]string{root: "1048581:1048582", root + "/new": "1048576:1048576", root + "/a": "1048576:1048576"})
}

func TestOverlayOfManyLayersWithOwnersOfAUserNamespace(t *testing.T) {
	const layers = 45
	var names, paths []string
	for i := range layers {
		names = append(names, fmt.Sprintf("layers/%d-%s", i, strings.Repeat("x", 65)))
	}
	dir := folders(t, append(slices.Clone(names), "upper", "work", "root")...)
	for i, name := range names {
		paths = append(paths, filepath.Join(dir, name))
		write(t, filepath.Join(dir, name, fmt.Sprint(i)), i, 0)
	}
	options := []string{"lowerdir=" + strings.Join(paths, ":"), "upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work")}
	root := filepath.Join(dir, "root")
	must(t, MountMapped("overlay", "overlay", root, options, namespace(t)))
	owners(t, map[string]string{root + "/0": "1048576:1048576", root + "/44": "1048620:1048576"})
}

func TestBindWithOwnersOfAUserNamespace(t *testing.T) {
	dir := folders(t, "source", "root")
	write(t, filepath.Join(dir, "source/a"), 7, 8)
	root := filepath.Join(dir, "root")
	must(t, MountMapped("bind", filepath.Join(dir, "source"), root, []string{"rbind", "rw", "nosuid"}, namespace(t)))
	owners(t, map[string]string{root: "1048576:1048576", root + "/a": "1048583:1048584"})
	asRoot(t, root, func() error { return os.WriteFile("new", nil, 0o600) })
	owners(t, map[string]string{dir + "/source/new": "0:0"})
	if table := mountsBelow(t, dir); len(table) != 1 || !strings.Contains(table[0], "nosuid") {
		t.Errorf("mount table:\n%s", strings.Join(table, ""))
	}
}

func TestWhatCanNotBeMapped(t *testing.T) {
	dir := folders(t, "lower", "upper", "work", "root")
	must(t, Mount("overlay", "overlay", filepath.Join(dir, "root"), []string{
		"lowerdir=" + filepath.Join(dir, "lower"), "upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work")}))
	inside := filepath.Join(dir, "root", "x")
	must(t, os.Mkdir(inside, 0o755))
	if err := Supported(filepath.Join(dir, "root")); !errors.Is(err, ErrMapped) {
		t.Errorf("on a filesystem that has no id-mapped mounts: %v", err)
	}
	if err := MountMapped("bind", inside, inside, []string{"bind"}, namespace(t)); !errors.Is(err, ErrMapped) {
		t.Errorf("a bind of it: %v", err)
	}
	if err := MountMapped("overlay", "overlay", filepath.Join(dir, "work"), []string{"lowerdir=/no/where"}, namespace(t)); !errors.Is(err, unix.ENOENT) || errors.Is(err, ErrMapped) {
		t.Errorf("a layer that is missing: %v", err)
	}
	if err := Supported(dir); err != nil {
		t.Errorf("where everything works: %v", err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "root")} {
		if _, err := os.Stat(filepath.Join(d, ".mapped")); err == nil {
			t.Errorf("the attempt's folder is left in %s", d)
		}
	}
}

func TestOptions(t *testing.T) {
	r := parse("overlay", "s", "t", []string{"ro", "nosuid", "noexec", "lowerdir=/a", "rw", "exec", "index=off"})
	if r.flags != unix.MS_NOSUID || r.data() != "lowerdir=/a,index=off" {
		t.Errorf("flags %#x, data %q", r.flags, r.data())
	}
	for list, want := range map[string][]string{
		"/a":              {"/a"},
		"/a:/b":           {"/a", "/b"},
		`/a\:b:/c\\:/d\,`: {"/a:b", `/c\`, "/d,"},
		`/a\`:             {`/a\`},
	} {
		if got := splitPaths(list); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
}
