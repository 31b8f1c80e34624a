package server_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// withInit makes the shim program process 1, as a bundle with `init: true` does.
func withInit(s *specs.Spec) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sbin/docker-init", Type: "bind", Source: built.shim, Options: []string{"bind", "ro"}})
	s.Process.Args = append([]string{"/sbin/docker-init", "--"}, s.Process.Args...)
}

func TestInit(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		situation string
		args      []string
		output    string
		code      int
	}{
		{"the exit code is the program's", []string{"echo", "hi", ";", "exit", "5"}, "hi\n", 5},
		{"a program that is missing", nil, "exec /nothing: No such file or directory\n", 127},
	} {
		t.Run(c.situation, func(t *testing.T) {
			h.t = t
			r := h.bundle("i", func(s *specs.Spec) {
				if c.args == nil {
					s.Process.Args = []string{"/nothing"}
				}
				withInit(s)
			}, c.args...)
			r.Log.Path = filepath.Join(t.TempDir(), "log")
			h.run(r)
			if state := h.exit("i"); state.ExitCode != c.code || h.output(r) != c.output {
				t.Errorf("state %+v, output %q", state, h.output(r))
			}
		})
	}
	h.t = t

	r := h.bundle("t", withInit, "fork", "exit", "0", ";", "trap")
	h.run(r)
	eventually(t, "readiness", func() bool { return strings.Contains(h.output(r), "ready") })
	must(t, h.Signal(ctx(t), "t", syscall.SIGUSR1, false))
	eventually(t, "the signal behind the init", func() bool { return strings.Contains(h.output(r), "got user defined signal 1") })
	eventually(t, "collection of the orphan", func() bool {
		list, err := h.Top(ctx(t), "t")
		must(t, err)
		return len(list) == 2
	})
	must(t, h.Signal(ctx(t), "t", syscall.SIGTERM, false))
	if state := h.exit("t"); state.ExitCode != 3 {
		t.Errorf("state %+v", state)
	}
}

func TestSeccompIsInForce(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", func(s *specs.Spec) {
				s.Linux.Seccomp = profile.DefaultProfile(s)
				s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
				s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = s.Process.Capabilities.Bounding, s.Process.Capabilities.Bounding
			}, "mount", "/tmp")
			r.Runtime = path
			h.run(r)
			if state := h.exit("c"); state.ExitCode != 1 || h.output(r) != "operation not permitted\n" {
				t.Errorf("mount with CAP_SYS_ADMIN: state %+v, output %q", state, h.output(r))
			}
			r = h.bundle("open", func(s *specs.Spec) {
				s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
				s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = s.Process.Capabilities.Bounding, s.Process.Capabilities.Bounding
			}, "mount", "/tmp")
			r.Runtime = path
			h.run(r)
			if state := h.exit("open"); state.ExitCode != 0 {
				t.Errorf("mount without a profile: state %+v, output %q", state, h.output(r))
			}
		})
	}
}

// TestSharedHost runs where the host's mounts are shared, as systemd makes them: a container's root must survive that the
// host's mount is taken away, and propagation to the host must work for who asks for it.
func TestSharedHost(t *testing.T) {
	var h *host
	done := make(chan struct{})
	go func() { // a thread with mounts of its own, which the shim inherits; it ends with the test's work
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			t.Error(err)
			return
		}
		h = newHost(t)
		volume := filepath.Join(h.root, "volume")
		if err := os.MkdirAll(filepath.Join(volume, "sub"), 0o755); err != nil {
			t.Error(err)
			return
		}
		plain := h.bundle("plain", nil, "ls", "/", ";", "cat", ";", "cat", "/etc/plain")
		plain.StdinOpen = true
		if _, err := h.Start(ctx(t), plain); err != nil {
			t.Error(err)
			return
		}
		sharing := h.bundle("sharing", func(s *specs.Spec) {
			s.Linux.RootfsPropagation = "rshared"
			s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
			s.Process.Capabilities.Effective, s.Process.Capabilities.Permitted = s.Process.Capabilities.Bounding, s.Process.Capabilities.Bounding
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind", "rshared"}})
		}, "mount", "/volume/sub", ";", "write", "/volume/sub/file", "x", ";", "cat")
		sharing.StdinOpen = true
		if _, err := h.Start(ctx(t), sharing); err != nil {
			t.Error(err)
			return
		}
		eventually(t, "the container's mount on the host", func() bool {
			_, err := os.Stat(filepath.Join(volume, "sub", "file"))
			return err == nil
		})
		for _, id := range []string{"plain", "sharing"} {
			must(t, h.CloseStdin(ctx(t), id))
		}
	}()
	<-done
	if t.Failed() {
		return
	}
	codes := map[string]int{}
	for len(codes) < 2 {
		if e := <-h.events; e.Kind == shim.KindExit {
			codes[e.State.ID] = e.State.ExitCode
		}
	}
	if codes["plain"] != 0 || codes["sharing"] != 0 {
		t.Errorf("exit codes %v", codes)
	}
	data, err := os.ReadFile(filepath.Join(h.root, "plain", "log", "json.log"))
	must(t, err)
	if !strings.Contains(string(data), "text") {
		t.Errorf("output of the container whose mount the host has dropped: %s", data)
	}
}
