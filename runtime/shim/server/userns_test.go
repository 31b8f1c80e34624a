package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// hostRoot is the container's root on the host.
const hostRoot = 200000

var hostMaps = []shim.IDMap{{Container: 0, Host: hostRoot, Size: 65536}}

// mapped is a bundle for a user namespace: its root filesystem is mapped, and the way to it open.
func (h *host) mapped(id string, box shim.SandboxReply, change func(*specs.Spec), args ...string) shim.StartRequest {
	h.t.Helper()
	r := h.bundle(id, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: box.Userns})
		if box.Netns != "" {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
		}
		if change != nil {
			change(s)
		}
	}, args...)
	r.Rootfs[0].Options = append(r.Rootfs[0].Options, "idmap")
	for dir := r.Bundle; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(h.t, os.Chmod(dir, 0o711))
	}
	return r
}

func hostOwner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func TestUserNamespace(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			box, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "mapped", UIDs: hostMaps, GIDs: hostMaps, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}})
			must(t, err)
			private := filepath.Join(h.root, "private")
			must(t, os.MkdirAll(h.root, 0o711))
			must(t, os.WriteFile(private, []byte("root only"), 0o600))
			volume := filepath.Join(h.root, "volume")
			must(t, os.Mkdir(volume, 0o755))
			r := h.mapped("mapped", box, func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/private", Type: "bind", Source: private, Options: []string{"bind"}})
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"bind", "idmap"}})
			}, "cat", "/proc/self/uid_map", "/proc/sys/net/ipv4/ip_forward", ";", "owner", "/", "/box", "/etc/plain", "/private", ";", "write", "/dev/stdout", "again\n", ";",
				"id", ";", "write", "/new", "x", ";", "write", "/etc/plain", "x", ";", "chown", "7", "/etc/passwd", ";", "owner", "/new", "/etc/plain", "/etc/passwd", ";", "sleep")
			r.Runtime = path
			reply := h.run(r)
			eventually(t, "output", func() bool { return strings.HasSuffix(h.output(r), "7 7\n") })
			got := strings.Join(strings.Fields(strings.NewReplacer("[0]", "[]").Replace(h.output(r))), " ")
			if want := "0 200000 65536 1 0 0 0 0 0 0 65534 65534 again 0 0 [] 0 0 0 0 7 7"; got != want {
				t.Errorf("output %q, want %q", got, want)
			}
			if uid := hostOwner(t, filepath.Join("/proc", itoa(reply.PID))); uid != hostRoot {
				t.Errorf("root of the container is %d on the host", uid)
			}
			for file, want := range map[string]int{"upper": hostRoot, "upper/new": hostRoot, "upper/etc/plain": hostRoot, "upper/etc/passwd": hostRoot + 7} {
				if got := hostOwner(t, filepath.Join(r.Bundle, file)); got != want {
					t.Errorf("%s belongs to %d on the host, want %d", file, got, want)
				}
			}
			for file, want := range map[string]int{"image/etc/plain": 0, "image/etc/passwd": 0} {
				if got := hostOwner(t, filepath.Join(h.root, file)); got != want {
					t.Errorf("%s belongs to %d on the host, want %d", file, got, want)
				}
			}

			out, code := h.execute(t, shim.ExecRequest{ID: "mapped", ExecID: "a", Args: []string{"/box", "cat", "/private"}})
			if code == 0 || !strings.Contains(out, "permission denied") {
				t.Errorf("a file of the host's root: %q, code %d", out, code)
			}
			out, code = h.execute(t, shim.ExecRequest{ID: "mapped", ExecID: "b", User: "1000:1001", Args: []string{"/box", "id", ";", "write", "/dev/stdout", "exec\n"}})
			if code != 0 || out != "1000 1001 []\nexec\n" {
				t.Errorf("another user: %q, code %d", out, code)
			}
			out, code = h.execute(t, shim.ExecRequest{ID: "mapped", ExecID: "c", Args: []string{"/box", "write", "/volume/x", "x", ";", "owner", "/volume", "/volume/x"}})
			if code != 0 || out != "0 0\n0 0\n" || hostOwner(t, filepath.Join(volume, "x")) != 0 {
				t.Errorf("the volume: %q, code %d, its file belongs to %d on the host", out, code, hostOwner(t, filepath.Join(volume, "x")))
			}
			table, err := os.ReadFile("/proc/thread-self/mountinfo")
			must(t, err)
			if strings.Contains(string(table), h.root) {
				t.Error("a mount stays in the host's table")
			}

			must(t, h.Kill(ctx(t), "mapped"))
			h.exit("mapped")
			h.run(r)
			eventually(t, "output of the second run", func() bool { return strings.Count(h.output(r), "\n") > 20 })
			if out, code := h.execute(t, shim.ExecRequest{ID: "mapped", ExecID: "d", Args: []string{"/box", "owner", "/", "/new", "/etc/passwd"}}); code != 0 || out != "0 0\n0 0\n7 7\n" {
				t.Errorf("after a restart: %q, code %d", out, code)
			}
			if name != "libcontainer" {
				return
			}

			// Another container in the same namespaces, found by the process of the first.
			shared := shim.SandboxReply{Netns: "/proc/" + itoa(h.pid("mapped")) + "/ns/net", Userns: "/proc/" + itoa(h.pid("mapped")) + "/ns/user"}
			second := h.mapped("second", shared, nil, "owner", "/box", ";", "cat", "/proc/self/uid_map", ";", "write", "/dev/stdout", "again\n")
			h.run(second)
			if state := h.exit("second"); state.ExitCode != 0 || strings.Join(strings.Fields(h.output(second)), " ") != "0 0 0 200000 65536 again" {
				t.Errorf("in the first one's namespaces: %+v, %q", state, h.output(second))
			}
		})
	}
}

// pid of a container's first process.
func (h *host) pid(id string) int {
	h.t.Helper()
	states, err := h.List(ctx(h.t))
	must(h.t, err)
	for _, s := range states {
		if s.ID == id {
			return s.PID
		}
	}
	h.t.Fatalf("no container %s", id)
	return 0
}

func TestUserNamespaceOnTheHostsNetwork(t *testing.T) {
	h := newHost(t)
	box, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "mapped", UIDs: hostMaps, GIDs: hostMaps, HostNetwork: true})
	must(t, err)
	if box.Netns != "" {
		t.Errorf("a network namespace %s", box.Netns)
	}
	again, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "mapped", UIDs: hostMaps, GIDs: hostMaps, HostNetwork: true})
	must(t, err)
	if again != box {
		t.Errorf("asked again: %v, before %v", again, box)
	}
	r := h.mapped("mapped", box, nil, "cat", "/proc/self/uid_map")
	h.run(r)
	if state := h.exit("mapped"); state.ExitCode != 0 || !strings.Contains(h.output(r), "200000") {
		t.Errorf("state %+v, output %q", state, h.output(r))
	}
}

func TestAMappedRootNeedsAUserNamespace(t *testing.T) {
	h := newHost(t)
	for situation, c := range map[string]struct{ userns, words string }{
		"none":                       {"", "names no user namespace"},
		"one that is gone":           {"/proc/0/ns/user", "no such file"},
		"a file that is not of that": {"/etc/passwd", "invalid"},
	} {
		t.Run(situation, func(t *testing.T) {
			h.t = t
			r := h.bundle("bad", func(s *specs.Spec) {
				if c.userns != "" {
					s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: c.userns})
				}
			}, "sleep")
			r.Rootfs[0].Options = append(r.Rootfs[0].Options, "idmap")
			if _, err := h.Start(ctx(t), r); !errors.Is(err, shim.ErrInvalid) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("error %v", err)
			}
			must(t, h.Release(ctx(t), "bad"))
			h.nothingRuns()
		})
	}
	h.t = t
}
