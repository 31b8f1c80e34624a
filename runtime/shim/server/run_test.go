package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

func TestRun(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		situation string
		args      []string
		output    string
		code      int
	}{
		{"ends with a code", []string{"exit", "7"}, "", 7},
		{"writes a line", []string{"echo", "hello"}, "hello\n", 0},
		{"ends in the middle of a line", []string{"printf", `one\ntwo`}, "one\ntwo", 0},
		{"reads its standard input, which is empty", []string{"cat", ";", "echo", "end"}, "end\n", 0},
		{"writes a lot at once", []string{"lines", "20000", ";", "echo", "end"}, "", 0},
		{"knows its name", []string{"hostname"}, "knows-its-name\n", 0},
	} {
		t.Run(c.situation, func(t *testing.T) {
			h.t = t
			id := strings.NewReplacer(" ", "-", ",", "").Replace(c.situation)
			r := h.bundle(id, nil, c.args...)
			reply := h.run(r)
			if reply.PID <= 0 || time.Since(reply.Started) > time.Minute {
				t.Errorf("reply %+v", reply)
			}
			state := h.exit(id)
			if state.ExitCode != c.code || state.Status != shim.Exited || state.Error != "" || state.OOM {
				t.Errorf("state %+v", state)
			}
			out := h.output(r)
			if c.args[0] == "lines" {
				if n := strings.Count(out, "\n"); n != 20001 || !strings.HasSuffix(out, "line 19999\nend\n") {
					t.Errorf("%d lines", n)
				}
			} else if out != c.output {
				t.Errorf("output %q, want %q", out, c.output)
			}
			must(t, h.Release(ctx(t), id))
		})
	}
	h.t = t
}

func TestNoMountStaysInTheHostsTable(t *testing.T) {
	h := newHost(t)
	r := h.bundle("quiet", nil, "write", "/file", "x", ";", "ls", "/", ";", "sleep")
	h.run(r)
	eventually(t, "the container's output", func() bool { return strings.Contains(h.output(r), "file\n") })
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	must(t, err)
	if strings.Contains(string(table), h.root) {
		t.Errorf("the root filesystem is in the host's mount table")
	}
	if _, err := os.Stat(filepath.Join(r.Bundle, "upper", "file")); err != nil {
		t.Errorf("what the container wrote: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		situation string
		change    func(*specs.Spec)
		request   func(*shim.StartRequest)
		want      error
		words     string
	}{
		{"no such program in the path", func(s *specs.Spec) { s.Process.Args = []string{"nothing"} }, nil, shim.ErrNoCommand, `"nothing": executable file not found in $PATH`},
		{"no such file", func(s *specs.Spec) { s.Process.Args = []string{"/no/thing"} }, nil, shim.ErrNoCommand, `"/no/thing": no such file or directory`},
		{"the program is a folder", func(s *specs.Spec) { s.Process.Args = []string{"/etc"} }, nil, shim.ErrNoCommand, ""},
		{"the program is no executable file", func(s *specs.Spec) { s.Process.Args = []string{"/etc/plain"} }, nil, shim.ErrNotExec, "permission denied"},
		{"a mount's source is missing", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such/source", Options: []string{"bind"}})
		}, nil, shim.ErrInvalid, "/no/such/source"},
		{"an unknown rlimit", func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, nil, shim.ErrInvalid, "RLIMIT_X"},
		{"a sysctl that does not exist", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.shm_nothing": "1"} }, nil, shim.ErrInvalid, ""},
		{"the working directory is a file", func(s *specs.Spec) { s.Process.Cwd = "/etc/plain" }, nil, shim.ErrInvalid, ""},
		{"no bundle", nil, func(r *shim.StartRequest) { r.Bundle += "x" }, shim.ErrInvalid, "config.json"},
		{"a relative bundle", nil, func(r *shim.StartRequest) { r.Bundle = "x" }, shim.ErrInvalid, ""},
		{"an id that is a path", nil, func(r *shim.StartRequest) { r.ID = "../x" }, shim.ErrInvalid, "id"},
		{"a root filesystem that can't be mounted", nil, func(r *shim.StartRequest) { r.Rootfs[0].Options = []string{"lowerdir=/no/where"} }, shim.ErrInternal, "rootfs"},
		{"an unknown log driver", nil, func(r *shim.StartRequest) { r.Log.Driver = "syslog" }, shim.ErrInvalid, "syslog"},
		{"an OCI runtime that is missing", nil, func(r *shim.StartRequest) { r.Runtime = "/no/such/runtime" }, shim.ErrInvalid, "/no/such/runtime"},
	} {
		t.Run(c.situation, func(t *testing.T) {
			h.t = t
			r := h.bundle("bad", c.change, "sleep")
			if c.request != nil {
				c.request(&r)
			}
			_, err := h.Start(ctx(t), r)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("error %v, want %v with %q", err, c.want, c.words)
			}
			must(t, h.Release(ctx(t), "bad"))
			h.nothingRuns()
		})
	}
	h.t = t
}

// nothingRuns fails the test when something of a container is left although none runs.
func (h *host) nothingRuns() {
	h.t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/*" + h.cgroup + "/stack/*", "/sys/fs/cgroup" + h.cgroup + "/stack/*"} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				h.t.Errorf("cgroup %s is left", path)
			}
		}
	}
	for _, dir := range []string{"containers", "libcontainer", "oci"} {
		entries, err := os.ReadDir(filepath.Join(h.dir, dir))
		must(h.t, err)
		for _, e := range entries {
			h.t.Errorf("%s/%s is left", dir, e.Name())
		}
	}
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	must(h.t, err)
	if strings.Contains(string(table), h.root) {
		h.t.Errorf("a mount is left")
	}
}

func TestSignals(t *testing.T) {
	h := newHost(t)
	r := h.bundle("trap", nil, "trap")
	h.run(r)
	eventually(t, "readiness", func() bool { return strings.Contains(h.output(r), "ready") })
	must(t, h.Signal(ctx(t), "trap", syscall.SIGUSR1, false))
	eventually(t, "the signal's arrival", func() bool { return strings.Contains(h.output(r), "got user defined signal 1") })
	must(t, h.Signal(ctx(t), "trap", syscall.SIGHUP, true))
	eventually(t, "the signal's arrival", func() bool { return strings.Contains(h.output(r), "got hangup") })
	must(t, h.Signal(ctx(t), "trap", syscall.SIGTERM, false))
	if state := h.exit("trap"); state.ExitCode != 3 {
		t.Errorf("state %+v", state)
	}
	if err := h.Signal(ctx(t), "trap", syscall.SIGTERM, false); !errors.Is(err, shim.ErrConflict) {
		t.Errorf("signal to an exited container: %v", err)
	}
	if err := h.Signal(ctx(t), "nobody", syscall.SIGTERM, false); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("signal to an unknown container: %v", err)
	}
}

func TestContainersInheritNoSignalSettings(t *testing.T) {
	h := newHost(t)
	for name, change := range map[string]func(*specs.Spec){"plain": func(*specs.Spec) {}, "init": withInit} {
		r := h.bundle(name, change, "cat", "/proc/self/status")
		h.run(r)
		h.exit(name)
		for _, line := range []string{"SigIgn:\t0000000000000000\n", "SigBlk:\t0000000000000000\n"} {
			if out := h.output(r); !strings.Contains(out, line) {
				t.Errorf("%s: no %q in %s", name, line, out)
			}
		}
	}
}

func TestKill(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		situation string
		shared    bool // the host's pid namespace
		paused    bool
	}{
		{situation: "own processes"},
		{situation: "the host's pid namespace", shared: true},
		{situation: "paused", paused: true},
		{situation: "paused in the host's pid namespace", shared: true, paused: true},
	} {
		t.Run(c.situation, func(t *testing.T) {
			h.t = t
			r := h.bundle("victim", func(s *specs.Spec) {
				if c.shared {
					s.Linux.Namespaces = s.Linux.Namespaces[1:]
				}
			}, "fork", "sleep", ";", "sleep")
			h.run(r)
			var all []shim.Process
			eventually(t, "both processes", func() bool {
				list, err := h.Top(ctx(t), "victim")
				must(t, err)
				all = list
				return len(list) == 2 && strings.HasPrefix(list[0].Command, "/box") && strings.HasPrefix(list[1].Command, "/box")
			})
			if c.paused {
				must(t, h.Pause(ctx(t), "victim"))
			}
			must(t, h.Kill(ctx(t), "victim"))
			if state := h.exit("victim"); state.ExitCode != 137 {
				t.Errorf("state %+v", state)
			}
			for _, p := range all {
				if alive(p.PID) {
					t.Errorf("process %d lives on", p.PID)
				}
			}
		})
	}
	h.t = t
}

func TestRestartInTheSameSandbox(t *testing.T) {
	h := newHost(t)
	box, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "again", Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}})
	must(t, err)
	r := h.bundle("again", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
	}, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", ";", "exit", "1")
	same, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "again"})
	must(t, err)
	if same != box {
		t.Errorf("asked again: %v, before %v", same, box)
	}
	inside := stat(t, box.Netns)
	if ours := stat(t, "/proc/self/ns/net"); inside == ours {
		t.Error("the sandbox is the host's network")
	}
	for range 3 {
		h.run(r)
		if state := h.exit("again"); state.ExitCode != 1 || state.Netns != box.Netns {
			t.Errorf("state %+v", state)
		}
	}
	if out := h.output(r); out != "0\n0\n0\n" {
		t.Errorf("output %q", out)
	}
	must(t, h.Release(ctx(t), "again"))
	if _, err := os.Stat(box.Netns); err == nil {
		t.Error("the namespace is held on")
	}
	must(t, h.Release(ctx(t), "again"))
}

// stat gives what identifies a namespace.
func stat(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestStartIsIdempotentWhileTheContainerRuns(t *testing.T) {
	h := newHost(t)
	r := h.bundle("once", nil, "sleep")
	first := h.run(r)
	second := h.run(r)
	if first.PID != second.PID || !first.Started.Equal(second.Started) {
		t.Errorf("started twice: %+v, %+v", first, second)
	}
	if err := h.Release(ctx(t), "once"); !errors.Is(err, shim.ErrConflict) {
		t.Errorf("release of a running container: %v", err)
	}
	if err := h.Shutdown(ctx(t), false); !errors.Is(err, shim.ErrConflict) {
		t.Errorf("shutdown with a running container: %v", err)
	}
}

func TestOutOfMemory(t *testing.T) {
	h := newHost(t)
	limit := int64(24 << 20)
	r := h.bundle("hungry", func(s *specs.Spec) {
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	}, "eat", "200")
	h.run(r)
	if state := h.exit("hungry"); state.ExitCode != 137 || !state.OOM {
		t.Errorf("state %+v", state)
	}
	h.event("hungry", shim.KindOOM)
}
