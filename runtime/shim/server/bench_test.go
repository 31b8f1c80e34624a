package server_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// cpu is the processor time that the shim and its children have used.
func (h *host) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
	must(h.t, err)
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(f)
		must(h.t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// pss is the shim's proportional share of memory, in KiB.
func (h *host) pss() int {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", h.PID()))
	must(h.t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			must(h.t, err)
			return n
		}
	}
	h.t.Fatal("no Pss")
	return 0
}

// BenchmarkStart starts containers with their own network namespaces and stops them, one by one and two at once.
func BenchmarkStart(b *testing.B) {
	for _, seccomp := range []bool{false, true} {
		for _, parallel := range []int{1, 2} {
			b.Run(fmt.Sprintf("seccomp=%v/parallel=%d", seccomp, parallel), func(b *testing.B) {
				h := newHost(b)
				next := make(chan string, parallel)
				var wg sync.WaitGroup
				before := h.cpu()
				for range parallel {
					wg.Go(func() {
						for id := range next {
							h.startStop(b, id, seccomp)
						}
					})
				}
				n := 0
				for b.Loop() {
					next <- fmt.Sprintf("c%d", n)
					n++
				}
				close(next)
				wg.Wait()
				b.ReportMetric(float64((h.cpu()-before).Milliseconds())/float64(n), "cpu-ms/op")
			})
		}
	}
}

func (h *host) startStop(b *testing.B, id string, seccomp bool) {
	box, err := h.Sandbox(ctx(b), shim.SandboxRequest{ID: id})
	if err != nil {
		b.Error(err)
		return
	}
	r := h.bundle(id, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
		if seccomp {
			s.Linux.Seccomp = profile.DefaultProfile(s)
		}
	}, "sleep")
	if _, err = h.Start(ctx(b), r); err == nil {
		err = h.Kill(ctx(b), id)
	}
	if err != nil {
		b.Error(err)
		return
	}
	for { // one event for each of the goroutines, whichever takes it
		if e := <-h.events; e.Kind == shim.KindExit {
			break
		}
	}
	if err := h.Release(ctx(b), id); err != nil && !strings.Contains(err.Error(), "running") {
		b.Error(err)
	}
}

// BenchmarkMemory reports what the shim needs for itself and for each of 30 containers. It measures once.
func BenchmarkMemory(b *testing.B) {
	h := newHost(b)
	empty := h.pss()
	const n = 30
	for i := range n {
		id := fmt.Sprintf("c%d", i)
		box, err := h.Sandbox(ctx(b), shim.SandboxRequest{ID: id})
		must(b, err)
		h.run(h.bundle(id, func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
			s.Linux.Seccomp = profile.DefaultProfile(s)
		}, "echo", "hello", ";", "sleep"))
	}
	time.Sleep(4 * time.Second) // the shim gives memory back when it has been idle for a while
	full := h.pss()
	for b.Loop() {
	}
	b.ReportMetric(float64(empty), "KiB-empty")
	b.ReportMetric(float64(full), "KiB-full")
	b.ReportMetric(float64(full-empty)/n, "KiB/container")
}

// BenchmarkProbe runs a command that ends at once in a container with the usual seccomp profile: as an exec and as a probe.
func BenchmarkProbe(b *testing.B) {
	for _, way := range []string{"exec", "probe"} {
		b.Run(way, func(b *testing.B) {
			h := newHost(b)
			box, err := h.Sandbox(ctx(b), shim.SandboxRequest{ID: "c"})
			must(b, err)
			h.run(h.bundle("c", func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network", Path: box.Netns})
				s.Linux.Seccomp = profile.DefaultProfile(s)
			}, "sleep"))
			before, n := h.cpu(), 0
			for b.Loop() {
				n++
				if way == "probe" {
					_, err = h.Probe(ctx(b), shim.ProbeRequest{ID: "c", Args: []string{"/box", "exit", "0"}, Timeout: time.Minute, Limit: 4096})
				} else {
					var e *shim.Exec
					if e, err = h.Exec(ctx(b), shim.ExecRequest{ID: "c", ExecID: fmt.Sprint(n), Args: []string{"/box", "exit", "0"}}, [3]*os.File{}); err == nil {
						_, err = e.Wait(ctx(b))
					}
				}
				must(b, err)
			}
			b.ReportMetric(float64((h.cpu()-before).Microseconds())/float64(n)/1000, "cpu-ms/op")
		})
	}
}
