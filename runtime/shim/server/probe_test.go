package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

func (h *host) probe(args ...string) (shim.ProbeReply, error) {
	return h.Probe(ctx(h.t), shim.ProbeRequest{ID: "c", Args: args, Timeout: 30 * time.Second, Limit: 1 << 20})
}

// fast tells whether the shim keeps a request of its small program, which starts probes the cheap way.
func (h *host) fast() bool {
	h.t.Helper()
	dir := "/proc/" + itoa(h.PID()) + "/fd"
	entries, err := os.ReadDir(dir)
	must(h.t, err)
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		link, _ := os.Readlink(filepath.Join(dir, e.Name()))
		return strings.HasPrefix(link, "/memfd:stack-probe")
	})
}

// everything a process can tell of itself, but for what no two processes have the same.
var everything = []string{"/box", "cat", "/proc/self/status", "/proc/self/limits", "/proc/self/cgroup", "/proc/self/oom_score_adj", "/proc/self/mountinfo", ";",
	"ns", ";", "env", ";", "pwd", ";", "id", ";", "ls", "/proc/self/fd", ";", "calls"}

// compare lists what only the one and what only the other is told.
func compare(a, b string) (onlyA, onlyB string) {
	lacking := func(from, in string) string {
		others := told(in)
		return strings.Join(slices.DeleteFunc(told(from), func(line string) bool { return slices.Contains(others, line) }), "")
	}
	return lacking(a, b), lacking(b, a)
}

func told(output string) (kept []string) {
	for line := range strings.Lines(output) {
		name, _, _ := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(name, "Vm"), strings.HasPrefix(name, "Rss"), strings.HasSuffix(name, "ctxt_switches"):
		case slices.Contains([]string{"Tgid", "Pid", "NStgid", "NSpid", "NSpgid", "NSsid", "Threads", "HugetlbPages", "State", "SigQ"}, name):
		default:
			kept = append(kept, line)
		}
	}
	return kept
}

func TestAProbeGetsWhatAnExecGets(t *testing.T) {
	private := func(s *specs.Spec, box shim.SandboxReply) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns}, specs.LinuxNamespace{Type: "cgroup"})
	}
	for situation, change := range map[string]func(*specs.Spec, shim.SandboxReply){
		"as most": func(s *specs.Spec, box shim.SandboxReply) {
			private(s, box)
			s.Linux.Seccomp = profile.DefaultProfile(s)
		},
		"without no_new_privs": func(s *specs.Spec, box shim.SandboxReply) {
			private(s, box)
			s.Process.NoNewPrivileges = false
			s.Linux.Seccomp = profile.DefaultProfile(s)
		},
		"without a filter": private,
		"a user with groups and a folder of its own": func(s *specs.Spec, box shim.SandboxReply) {
			private(s, box)
			mask, few := uint32(0o077), []string{"CAP_NET_BIND_SERVICE"}
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002, 5}, Umask: &mask}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_NET_BIND_SERVICE"}, Effective: few, Permitted: few, Inheritable: few, Ambient: few}
			s.Process.Cwd = "/own"
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/own", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=700", "uid=1000"}})
			s.Linux.Seccomp = profile.DefaultProfile(s)
		},
		"limits and a score": func(s *specs.Spec, box shim.SandboxReply) {
			private(s, box)
			score := 500
			s.Process.OOMScoreAdj = &score
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128}, {Type: "RLIMIT_CORE"}}
		},
		"everything of the host": func(s *specs.Spec, _ shim.SandboxReply) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount"}}
			s.Hostname = ""
		},
		"a user namespace": func(s *specs.Spec, box shim.SandboxReply) {
			private(s, box)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: box.Userns})
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002}}
			s.Linux.Seccomp = profile.DefaultProfile(s)
		},
	} {
		t.Run(situation, func(t *testing.T) {
			h := newHost(t)
			request := shim.SandboxRequest{ID: "c"}
			if strings.Contains(situation, "user namespace") {
				request.UIDs, request.GIDs = hostMaps, hostMaps
			}
			box, err := h.Sandbox(ctx(t), request)
			must(t, err)
			if box.Userns != "" {
				h.run(h.mapped("c", shim.SandboxReply{}, func(s *specs.Spec) {
					s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == "user" })
					change(s, box)
				}, "sleep"))
			} else {
				h.run(h.bundle("c", func(s *specs.Spec) { change(s, box) }, "sleep"))
			}
			want, code := h.execute(t, shim.ExecRequest{ID: "c", ExecID: "e", Args: everything})
			if code != 0 || !strings.Contains(want, "Seccomp_filters:") {
				t.Fatalf("exec: code %d, output %q", code, want)
			}
			got, err := h.probe(everything...)
			must(t, err)
			if missing, more := compare(want, got.Output); got.ExitCode != 0 || missing+more != "" {
				t.Errorf("the probe, with code %d, is told\n%snot\n%s", got.ExitCode, more, missing)
			}
			again, err := h.probe(everything...)
			must(t, err)
			if missing, more := compare(want, again.Output); missing+more != "" {
				t.Errorf("the second probe is told\n%snot\n%s", more, missing)
			}
			if !h.fast() {
				t.Error("the probe was run as an exec")
			}
		})
	}
}

func TestProbesEnd(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", nil, "sleep")
			r.Runtime = path
			h.run(r)
			for _, c := range []struct {
				situation string
				args      []string
				want      shim.ProbeReply
			}{
				{"well", []string{"/box", "echo", "fine"}, shim.ProbeReply{Output: "fine\n"}},
				{"found in the path", []string{"box", "exit", "9"}, shim.ProbeReply{ExitCode: 9}},
				{"with both streams", []string{"/box", "err", "bad", ";", "exit", "1"}, shim.ProbeReply{ExitCode: 1, Output: "bad\n"}},
				{"a child holds its output", []string{"/box", "fork", "sleep", "1h", ";", "echo", "left"}, shim.ProbeReply{Output: "left\n"}},
			} {
				t.Run(c.situation, func(t *testing.T) {
					if got, err := h.probe(c.args...); err != nil || got != c.want {
						t.Errorf("%+v, %v; want %+v", got, err, c.want)
					}
				})
			}
			got, err := h.Probe(ctx(t), shim.ProbeRequest{ID: "c", Args: []string{"/box", "lines", "100000"}, Timeout: 30 * time.Second, Limit: 7})
			if err != nil || got.Output != "line 0\n" || got.ExitCode != 0 {
				t.Errorf("much output: %+v, %v", got, err)
			}
			for _, c := range []struct {
				program string
				want    error
			}{{"nothing", shim.ErrNoCommand}, {"/nothing", shim.ErrNoCommand}, {"/etc/plain", shim.ErrNotExec}} {
				if _, err := h.probe(c.program); !errors.Is(err, c.want) {
					t.Errorf("probe by %s: %v, want %v", c.program, err, c.want)
				}
			}
			if fast := h.fast(); fast != (path == "") {
				t.Errorf("by the small program: %v", fast)
			}
			must(t, h.Pause(ctx(t), "c"))
			if _, err := h.probe("/box"); !errors.Is(err, shim.ErrConflict) {
				t.Errorf("a paused container: %v", err)
			}
			must(t, h.Resume(ctx(t), "c"))
			must(t, h.Kill(ctx(t), "c"))
			h.exit("c")
			if _, err := h.probe("/box"); !errors.Is(err, shim.ErrConflict) {
				t.Errorf("a container that has ended: %v", err)
			}
			if h.fast() {
				t.Error("the request of a container that has ended is kept")
			}
		})
	}
}

func TestAProbeThatTakesTooLongIsKilledWithItsChildren(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", nil, "sleep")
			r.Runtime = path
			h.run(r)
			got, err := h.Probe(ctx(t), shim.ProbeRequest{
				ID: "c", Timeout: 300 * time.Millisecond, Limit: 100, Args: []string{"/box", "echo", "begun", ";", "fork", "sleep", "1h", ";", "sleep"},
			})
			if err != nil || !got.TimedOut || got.Output != "begun\n" || got.ExitCode != 137 {
				t.Errorf("%+v, %v", got, err)
			}
			eventually(t, "only the container's first process is left", func() bool {
				all, err := h.Top(ctx(t), "c")
				return err == nil && len(all) == 1
			})
		})
	}
}

func TestProbesAtOnceLeaveNothingBehind(t *testing.T) {
	h := newHost(t)
	h.run(h.bundle("c", nil, "sleep"))
	files := func() int {
		entries, err := os.ReadDir("/proc/" + itoa(h.PID()) + "/fd")
		must(t, err)
		return len(entries)
	}
	_, err := h.probe("/box", "exit", "0")
	must(t, err)
	before := files()
	done := make(chan error, 40)
	for i := range cap(done) {
		go func() {
			got, err := h.probe("/box", "exit", strconv.Itoa(i%2))
			if err == nil && got.ExitCode != i%2 {
				err = errors.New("code " + strconv.Itoa(got.ExitCode))
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "as many open files as before", func() bool { return files() <= before })
	children, err := os.ReadFile("/proc/" + itoa(h.PID()) + "/task/" + itoa(h.PID()) + "/children")
	must(t, err)
	if n := len(strings.Fields(string(children))); n > 1 {
		t.Errorf("the shim has the children %s", children)
	}
}

func TestAContainerEndsWhileItIsProbed(t *testing.T) {
	h := newHost(t)
	for range 5 {
		h.run(h.bundle("c", nil, "sleep"))
		done := make(chan error, 1)
		go func() {
			for {
				if _, err := h.probe("/box", "exit", "0"); err != nil {
					done <- err
					return
				}
			}
		}()
		_, err := h.probe("/box", "exit", "0")
		must(t, err)
		must(t, h.Kill(ctx(t), "c"))
		h.exit("c")
		if err := <-done; !errors.Is(err, shim.ErrConflict) {
			t.Errorf("the probe failed: %v", err)
		}
		must(t, h.Release(ctx(t), "c"))
	}
}
