package local_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/voldriver"
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
