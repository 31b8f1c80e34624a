package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/runtime/shim"
)

func TestShimKilled(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			var pids []int
			for _, shared := range []bool{false, true} {
				r := h.bundle(fmt.Sprintf("shared-%v", shared), func(s *specs.Spec) {
					if shared {
						s.Linux.Namespaces = s.Linux.Namespaces[1:]
					}
				}, "fork", "sleep", ";", "sleep")
				r.Runtime = path
				h.run(r)
				eventually(t, "both processes", func() bool {
					list, err := h.Top(ctx(t), r.ID)
					must(t, err)
					if len(list) == 2 && strings.HasPrefix(list[1].Command, "/box") {
						pids = append(pids, list[0].PID, list[1].PID)
						return true
					}
					return false
				})
			}
			_, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "boxed"})
			must(t, err)
			done := h.bundle("done", nil, "exit", "4")
			done.Runtime = path
			h.run(done)
			h.exit("done")

			must(t, syscall.Kill(h.PID(), syscall.SIGKILL))
			<-h.Closed()
			h.spawn()
			states, err := h.List(ctx(t))
			must(t, err)
			if len(states) != 2 {
				t.Errorf("states %+v", states)
			}
			for _, s := range states {
				if s.Status != shim.Exited || s.ExitCode != 137 || s.Error == "" || s.Started.IsZero() {
					t.Errorf("state %+v", s)
				}
			}
			for _, pid := range pids {
				eventually(t, "the end of every process", func() bool { return !alive(pid) })
			}
			h.nothingRuns()
			r := h.bundle("shared-false", nil, "exit", "0")
			r.Runtime = path
			h.run(r)
			h.exit("shared-false")
		})
	}
}

func TestShimKilledInTheMiddleOfStarts(t *testing.T) {
	h := newHost(t)
	for round := range 5 {
		var wg sync.WaitGroup
		for i := range 8 {
			r := h.bundle(fmt.Sprintf("c%d", i), nil, "sleep")
			wg.Go(func() { _, _ = h.Start(ctx(t), r) })
		}
		time.Sleep(time.Duration(round*7) * time.Millisecond) // somewhere in it: no state is waited for
		must(t, syscall.Kill(h.PID(), syscall.SIGKILL))
		wg.Wait()
		<-h.Closed()
		h.spawn()
		states, err := h.List(ctx(t))
		must(t, err)
		for _, s := range states {
			if s.Status != shim.Exited {
				t.Errorf("state %+v", s)
			}
			must(t, h.Release(ctx(t), s.ID))
		}
		h.nothingRuns()
		must(t, syscall.Kill(h.PID(), syscall.SIGKILL)) // one that has cleaned up, and knows no more than it has written down
		<-h.Closed()
		h.spawn()
	}
}

func TestManyStartsAtOnce(t *testing.T) {
	h := newHost(t)
	const n = 100
	var wg sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("c%d", i)
		r := h.bundle(id, nil, "sleep")
		wg.Go(func() {
			box, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: id})
			if err == nil && box.Netns == "" {
				err = fmt.Errorf("no netns")
			}
			if err == nil {
				_, err = h.Start(ctx(t), r)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	states, err := h.List(ctx(t))
	must(t, err)
	if len(states) != n {
		t.Errorf("%d containers", len(states))
	}
	for _, s := range states {
		if s.Status != shim.Running {
			t.Errorf("state %+v", s)
		}
		wg.Go(func() {
			if err := h.Kill(ctx(t), s.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range states {
		for e := range h.events {
			if e.Kind == shim.KindExit {
				break
			}
		}
	}
	before := len(h.descriptors())
	for _, s := range states {
		must(t, h.Release(ctx(t), s.ID))
	}
	if after := len(h.descriptors()); before-after < n || after > 15 {
		t.Errorf("the shim holds %d files, before the release %d:\n%s", after, before, strings.Join(h.descriptors(), "\n"))
	}
	h.nothingRuns()
}

// descriptors lists what the shim has open.
func (h *host) descriptors() (list []string) {
	dir := fmt.Sprintf("/proc/%d/fd", h.PID())
	entries, err := os.ReadDir(dir)
	must(h.t, err)
	for _, e := range entries {
		link, _ := os.Readlink(filepath.Join(dir, e.Name()))
		list = append(list, link)
	}
	return list
}

func TestSpawnFindsTheShimThatRuns(t *testing.T) {
	h := newHost(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c, err := shim.Spawn(ctx(t), shim.SpawnOptions{Program: built.shim, Dir: h.dir})
			if err != nil {
				t.Error(err)
				return
			}
			if c.PID() != h.PID() {
				t.Errorf("another shim: %d, not %d", c.PID(), h.PID())
			}
			c.Close()
		})
	}
	wg.Wait()
}

func TestHeldFiles(t *testing.T) {
	h := newHost(t)
	port, other, err := os.Pipe()
	must(t, err)
	defer other.Close()
	r := h.bundle("c", nil, "exit", "0")
	_, err = h.Start(ctx(t), r, port)
	must(t, err)
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", port.Fd()))
	must(t, err)
	port.Close()
	held := func() bool { return strings.Contains(strings.Join(h.descriptors(), "\n"), link) }
	h.exit("c")
	h.run(r)
	h.exit("c")
	if !held() {
		t.Error("the file is closed although the container was not released")
	}
	must(t, h.Release(ctx(t), "c"))
	if held() {
		t.Error("the file is open after the release")
	}
}

func TestTheShimIsToldToTerminate(t *testing.T) {
	h := newHost(t)
	r := h.bundle("c", nil, "trap")
	h.run(r)
	eventually(t, "readiness", func() bool { return strings.Contains(h.output(r), "ready") })
	must(t, syscall.Kill(h.PID(), syscall.SIGTERM))
	if state := h.exit("c"); state.ExitCode != 3 {
		t.Errorf("state %+v", state)
	}
	<-h.Closed()
	eventually(t, "a clean folder", func() bool { return len(h.leftovers()) == 0 })
	h.spawn()
	if states, err := h.List(ctx(t)); err != nil || len(states) != 0 {
		t.Errorf("states %v, %v", states, err)
	}
}

func TestNames(t *testing.T) {
	h := newHost(t)
	must(t, h.Shutdown(ctx(t), false))
	records := filepath.Join(t.TempDir(), "dns")
	c, err := shim.Spawn(ctx(t), shim.SpawnOptions{Program: built.shim, Dir: h.dir, DNS: records})
	must(t, err)
	h.Client = c
	h.events, err = c.Watch(context.Background())
	must(t, err)
	box, err := h.Sandbox(ctx(t), shim.SandboxRequest{ID: "c"})
	must(t, err)
	must(t, dns.WriteRecord(records, "net", dns.Record{ContainerID: "c", Names: []string{"web"}}))
	must(t, dns.WriteRecord(records, "net", dns.Record{ContainerID: "other", Names: []string{"db"}}))
	r := h.bundle("c", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
	}, "cat", "/proc/net/udp", ";", "sleep")
	r.DNS = &dns.Config{Networks: []string{"net"}}
	h.run(r)
	eventually(t, "the name service at 127.0.0.11", func() bool { return strings.Contains(h.output(r), " 0B00007F:") })
	must(t, h.Kill(ctx(t), "c"))
	h.exit("c")
	left, err := os.ReadDir(filepath.Join(records, "net"))
	must(t, err)
	if len(left) != 1 || !strings.HasPrefix(left[0].Name(), "other") {
		t.Errorf("names left: %v", left)
	}
}

func TestPauseUpdateStats(t *testing.T) {
	h := newHost(t)
	r := h.bundle("c", nil, "spin")
	h.run(r)
	must(t, h.Pause(ctx(t), "c"))
	h.event("c", shim.KindPause)
	if _, err := h.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "e", Args: []string{"/box"}}, [3]*os.File{}); err == nil {
		t.Error("exec in a paused container")
	}
	before, err := h.Stats(ctx(t), "c")
	must(t, err)
	must(t, h.Resume(ctx(t), "c"))
	h.event("c", shim.KindResume)
	eventually(t, "use of the processor", func() bool {
		now, err := h.Stats(ctx(t), "c")
		must(t, err)
		return now.CPU > before.CPU+uint64(10*time.Millisecond) && now.Memory > 0 && now.PIDs > 0
	})
}

func TestUpdate(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", nil, "eat", "20", ";", "sleep")
			r.Runtime = path
			h.run(r)
			limit, pids, shares := int64(64<<20), int64(77), uint64(512)
			must(t, h.Update(ctx(t), "c", &specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}, CPU: &specs.LinuxCPU{Shares: &shares, Cpus: "0"},
			}))
			now, err := h.Stats(ctx(t), "c")
			must(t, err)
			if now.MemoryLimit != uint64(limit) || now.PIDsLimit != uint64(pids) {
				t.Errorf("stats %+v", now)
			}
			eventually(t, "use of memory", func() bool {
				now, err := h.Stats(ctx(t), "c")
				must(t, err)
				return now.Memory > 20<<20
			})
			little, check := int64(8<<20), true
			err = h.Update(ctx(t), "c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &little, CheckBeforeUpdate: &check}})
			if !errors.Is(err, shim.ErrInvalid) {
				t.Errorf("less memory than is in use: %v", err)
			}
			if now, err = h.Stats(ctx(t), "c"); err != nil || now.MemoryLimit != uint64(limit) {
				t.Errorf("the limit is %d: %v", now.MemoryLimit, err)
			}
		})
	}
}
