package local_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/builtin"
	"github.com/stack-run/stack/voldriver/drivertest"
	"github.com/stack-run/stack/voldriver/local"
)

var ctx = context.Background()

func open(t *testing.T, root string) *voldriver.Store {
	t.Helper()
	s, err := builtin.Open(voldriver.Options{Root: root, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDriver(t *testing.T) {
	s := open(t, t.TempDir())
	v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(v.Mountpoint, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b", filepath.Join(v.Mountpoint, "link")); err != nil {
		t.Fatal(err)
	}
	request := func(m spec.Mount) voldriver.Request {
		m.Type, m.Source, m.Target = spec.MountVolume, "data", "/d"
		return voldriver.Request{Mount: m, Volume: v}
	}
	drivertest.Run(t, local.Driver{}, []drivertest.Case{
		{Name: "plain", Request: request(spec.Mount{})},
		{Name: "read-only", Request: request(spec.Mount{ReadOnly: true})},
		{Name: "subpath", Request: request(spec.Mount{Subpath: "a"}), Look: func(t *testing.T, target string) {
			if _, err := os.Stat(filepath.Join(target, "b")); err != nil {
				t.Error(err)
			}
		}},
		{Name: "subpath by a link within", Request: request(spec.Mount{Subpath: "link"})},
	})
}

func TestSubpathStaysInTheVolume(t *testing.T) {
	s := open(t, t.TempDir())
	v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"absolute": "/etc", "up": "../..", "proc": "/proc/self/root"} {
		if err := os.Symlink(to, filepath.Join(v.Mountpoint, name)); err != nil {
			t.Fatal(err)
		}
	}
	for subpath, want := range map[string]error{
		"absolute": voldriver.ErrUnsupported, "up": voldriver.ErrUnsupported, "proc": voldriver.ErrUnsupported,
		"../data": voldriver.ErrUnsupported, "/etc": voldriver.ErrUnsupported, "up/x": voldriver.ErrUnsupported,
		"none": voldriver.ErrMissing, "none/x": voldriver.ErrMissing,
	} {
		m, err := s.Resolve(ctx, voldriver.Scope{ContainerID: "c"}, spec.Mount{Type: "volume", Source: "data", Target: "/d", Subpath: subpath})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, %v, want %v", subpath, m.Source, err, want)
		}
	}
}

// mounted leaves nothing mounted behind, whatever the test did.
func store(t *testing.T) *voldriver.Store {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
		if err != nil {
			t.Error(err)
		}
		for _, m := range mounts {
			t.Errorf("left mounted: %s", m.Mountpoint)
			if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
	return open(t, root)
}

// image makes a file with an ext4 file system.
func image(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	return path
}

// TestForeignVolumes follows volumes whose data lives elsewhere through their life.
func TestForeignVolumes(t *testing.T) {
	folder := t.TempDir()
	for name, options := range map[string]map[string]string{
		"folder of the host":    {"type": "none", "o": "bind", "device": folder},
		"memory":                {"type": "tmpfs", "o": "size=1m,uid=5", "device": "tmpfs"},
		"file system in a file": {"type": "ext4", "device": image(t)},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: options})
			if err != nil {
				t.Fatal(err)
			}
			isMounted := func(want bool, when string) {
				t.Helper()
				mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(v.Mountpoint))
				if err != nil || len(mounts) > 1 || (len(mounts) == 1) != want {
					t.Errorf("%s: mounted %d times, %v", when, len(mounts), err)
				}
			}
			isMounted(false, "made")
			for _, user := range []string{"c1", "c2", "c1"} {
				if path, err := s.Acquire(ctx, "data", user); err != nil || path != v.Mountpoint {
					t.Fatal(path, err)
				}
			}
			isMounted(true, "in use")
			if err := os.WriteFile(filepath.Join(v.Mountpoint, "precious"), nil, 0o600); err != nil {
				t.Error(err)
			}
			if err := s.ReleaseUser(ctx, "c1"); err != nil {
				t.Error(err)
			}
			isMounted(true, "still in use by c2")

			s = open(t, s.Root) // after a kill -9
			if err := s.Restore(ctx, map[string][]string{"data": {"c2"}}); err != nil {
				t.Error(err)
			}
			isMounted(true, "restored with its user")
			if err := s.Remove(ctx, "data"); !errors.Is(err, voldriver.ErrInUse) {
				t.Errorf("removed in use: %v", err)
			}
			s = open(t, s.Root)
			if err := s.Restore(ctx, nil); err != nil {
				t.Error(err)
			}
			isMounted(false, "restored without a user")

			if _, err := s.Acquire(ctx, "data", "c3"); err != nil {
				t.Error(err)
			}
			s = open(t, s.Root) // killed once more; now it is removed while it is mounted
			if err := s.Remove(ctx, "data"); err != nil {
				t.Error(err)
			}
			isMounted(false, "removed")
		})
	}
	if _, err := os.Stat(filepath.Join(folder, "precious")); err != nil {
		t.Errorf("removing the volume deleted the host's data: %v", err)
	}
}

func TestRemoveNeverReachesThroughAMount(t *testing.T) {
	s := store(t)
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	by := filepath.Join(v.Mountpoint, "by-hand")
	if err := os.Mkdir(by, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(precious, by, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(by, unix.MNT_DETACH)
	if err := s.Remove(ctx, "data"); !errors.Is(err, voldriver.ErrInUse) {
		t.Errorf("removed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(precious, "x")); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(by, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "data"); err != nil {
		t.Error(err)
	}
}

func TestABusyVolumeStays(t *testing.T) {
	s := store(t)
	v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Acquire(ctx, "data", "c"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(v.Mountpoint, "open"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx, "data", "c"); !errors.Is(err, voldriver.ErrInUse) {
		t.Errorf("released: %v", err)
	}
	f.Close()
	if err := s.Release(ctx, "data", "c"); err != nil {
		t.Error(err)
	}
}

func TestAttachFails(t *testing.T) {
	for name, test := range map[string]struct {
		options map[string]string
		want    error
	}{
		"a folder that is not there": {map[string]string{"type": "none", "o": "bind", "device": "/no/such/folder"}, voldriver.ErrMissing},
		"a file that is not there":   {map[string]string{"type": "ext4", "device": "/no/such/disk"}, voldriver.ErrMissing},
		"a file system there is not": {map[string]string{"type": "zippyfs", "device": "x"}, unix.ENODEV},
		"a server without a name":    {map[string]string{"type": "cifs", "device": "share"}, voldriver.ErrUnsupported},
		"an option it does not have": {map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "sizzle=1"}, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			if _, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: test.options}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Acquire(ctx, "data", "c"); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if users := s.Users("data"); len(users) != 0 {
				t.Errorf("users: %v", users)
			}
		})
	}
}

func TestSharedMemory(t *testing.T) {
	s := store(t)
	v, err := s.SharedMemory(ctx, "shop", "owner", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.SharedMemory(ctx, "shop", "owner", 1<<20)
	if err != nil || again.Mountpoint != v.Mountpoint {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := s.Acquire(ctx, v.Name, "guest"); err != nil {
		t.Error(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(v.Mountpoint, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || int64(fs.Blocks)*fs.Bsize != 1<<20 {
		t.Errorf("%#x, %d blocks of %d, %v", fs.Type, fs.Blocks, fs.Bsize, err)
	}
	if st, err := os.Stat(v.Mountpoint); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := s.ReleaseUser(ctx, "owner"); err != nil {
		t.Error(err)
	}
	if mounted, err := mountinfo.Mounted(v.Mountpoint); err != nil || !mounted {
		t.Errorf("the guest lost it: %v, %v", mounted, err)
	}
	if err := s.ReleaseUser(ctx, "guest"); err != nil {
		t.Error(err)
	}
	if err := s.Remove(ctx, v.Name); err != nil {
		t.Error(err)
	}
}
