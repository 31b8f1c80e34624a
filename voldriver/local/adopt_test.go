package local_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/local"
)

// holder is a process with a mount namespace of its own, as a container: it has what is mounted now, and does first what a
// script says.
func holder(t *testing.T, script string) (pid int) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script+"; echo ready; read -r _")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("a mount namespace (needs root): %v", err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return cmd.Process.Pid
}

func TestWhatWasUnmountedComesBackFromWhoStillHasIt(t *testing.T) {
	for name, test := range map[string]struct {
		options map[string]string
		script  string
		kept    bool
	}{
		"memory":                        {map[string]string{"type": "tmpfs", "o": "size=1m", "device": "tmpfs"}, `:`, true},
		"file system in a file":         {map[string]string{"type": "ext4", "device": image(t)}, `:`, true},
		"of who may only read it":       {map[string]string{"type": "tmpfs", "device": "tmpfs"}, `mount -o remount,bind,ro "$AT"`, true},
		"under another name":            {map[string]string{"type": "tmpfs", "device": "tmpfs"}, `mount --bind "$AT" /mnt; umount "$AT"`, true},
		"not of who has something else": {map[string]string{"type": "tmpfs", "device": "tmpfs"}, `mount -t tmpfs tmpfs /mnt; umount "$AT"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: test.options})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Acquire(ctx, "data", "c"); err != nil {
				t.Fatal(err)
			}
			precious := filepath.Join(v.Mountpoint, "precious")
			if err := os.WriteFile(precious, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AT", v.Mountpoint)
			pid := holder(t, test.script)
			s.Process = func(string) int { return pid }
			if err := unix.Unmount(v.Mountpoint, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Acquire(ctx, "data", "c"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(precious); (err == nil) != test.kept {
				t.Errorf("what was in it: %v", err)
			}
			if err := os.WriteFile(filepath.Join(v.Mountpoint, "more"), nil, 0o600); err != nil {
				t.Error(err)
			}
			if err := s.Release(ctx, "data", "c"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A container that may mount can do what it likes with its own mount; none of it comes to the host with the data.
func TestWhatComesBackIsTheVolumesOwn(t *testing.T) {
	s := store(t)
	v, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "nosuid, nodev,noexec"}})
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, user := range []string{"hostile", "awkward", "honest"} {
		if _, err := s.Acquire(ctx, "data", user); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AT", v.Mountpoint)
	pids["hostile"] = holder(t, `mount --make-rprivate /; mount --make-shared "$AT"; mount -o remount,bind,suid,dev,exec "$AT"`)
	pids["awkward"] = holder(t, `mount --make-unbindable "$AT"`)
	pids["honest"] = holder(t, `:`)
	for _, who := range [][]string{{"hostile"}, {"awkward", "honest"}} {
		if err := os.WriteFile(filepath.Join(v.Mountpoint, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Process = func(user string) int {
			if slices.Contains(who, user) {
				return pids[user]
			}
			return 0
		}
		if err := unix.Unmount(v.Mountpoint, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Acquire(ctx, "data", "honest"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(v.Mountpoint, "precious")); err != nil {
			t.Errorf("of %v: %v", who, err)
		}
		mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(v.Mountpoint))
		if err != nil || len(mounts) != 1 {
			t.Fatalf("%d mounts, %v", len(mounts), err)
		}
		if m := mounts[0]; m.Optional != "" || !strings.HasPrefix(m.Options, "rw,nosuid,nodev,noexec") {
			t.Errorf("of %v: mounted %s %s", who, m.Options, m.Optional)
		}
	}
	for user := range pids {
		if err := s.Release(ctx, "data", user); err != nil {
			t.Error(err)
		}
	}
}

// The daemon starts whatever has become of a server: nothing of its volumes is looked at to know them again.
func TestVolumesOfServersAreNotLookedAt(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"NFS":  {"type": "nfs", "device": ":/x", "o": "addr=127.0.0.1"},
		"CIFS": {"type": "cifs", "device": "//server/share"},
	} {
		v := voldriver.Volume{Name: "data", Options: options, Mountpoint: t.TempDir()}
		if err := unix.Mount("tmpfs", v.Mountpoint, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(v.Mountpoint, unix.MNT_DETACH) })
		if got := (local.Backend{}).Identify(v); got != (voldriver.Identity{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
