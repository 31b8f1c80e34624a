package reconciler

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/spec"
)

// limit reads a limit of a running container from the kernel, under its name in cgroup version 1 or 2.
func (h *host) limit(s Status, controller, v1, v2 string) string {
	h.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(s.View.State.PID) + "/cgroup")
	h.Must(err)
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		dir, file := "/sys/fs/cgroup/"+controller, v1
		if parts[1] == "" && h.engine.CgroupV2() {
			dir, file = "/sys/fs/cgroup", v2
		} else if parts[1] != controller && !strings.HasPrefix(parts[1], controller+",") {
			continue
		}
		value, err := os.ReadFile(filepath.Join(dir, parts[2], file))
		h.Must(err)
		return strings.TrimSpace(string(value))
	}
	h.Fatalf("no cgroup for %s in\n%s", controller, data)
	return ""
}

func (h *host) memoryLimit(s Status) string {
	h.Helper()
	return h.limit(s, "memory", "memory.limit_in_bytes", "memory.max")
}

// updates brings a stack up and fails unless that updates without making or starting anything.
func (h *host) updates(s *spec.Stack) {
	h.Helper()
	var kinds []planner.Kind
	_, err := h.Up(h.Context(), s, UpOptions{}, func(e Event) {
		if e.Kind == "start" {
			kinds = append(kinds, e.Action.Kind)
		}
	})
	h.Must(err)
	if len(kinds) != 1 || kinds[0] != planner.UpdateContainer {
		h.Errorf("up did %v, not one update", kinds)
	}
}

func TestLimitsChangeUnderTheRunningContainer(t *testing.T) {
	h := newHost(t)
	with := func(r spec.Resources) *spec.Stack {
		svc := service("web", "sleep")
		svc.Resources = r
		return stackOf("one", svc)
	}
	h.up(with(spec.Resources{Memory: 64 << 20}))
	before := h.one("one", "web")
	if got := h.memoryLimit(before); got != "67108864" {
		t.Fatalf("the limit is %s", got)
	}
	h.updates(with(spec.Resources{Memory: 128 << 20, PIDs: 77}))
	after := h.one("one", "web")
	if after.ID != before.ID || after.View.State.PID != before.View.State.PID {
		t.Error("the container is another one")
	}
	if got := h.memoryLimit(after); got != "134217728" {
		t.Errorf("the limit is %s", got)
	}
	if got := h.limit(after, "pids", "pids.max", "pids.max"); got != "77" {
		t.Errorf("the limit of processes is %s", got)
	}
	h.updates(with(spec.Resources{}))
	if got := h.limit(after, "pids", "pids.max", "pids.max"); got != "max" {
		t.Errorf("the limit of processes is %s although there is none any more", got)
	}
	if n := h.up(with(spec.Resources{})); n != 0 {
		t.Errorf("an up with nothing to do did %d things", n)
	}
}

func TestALimitThatTheKernelRefusesLeavesTheOldOnes(t *testing.T) {
	h := newHost(t)
	// Processors come before memory on cgroup version 1, processes on version 2: they have changed when memory is refused.
	with := func(memory, pids int64, processors string) *spec.Stack {
		svc := service("web", "eat", "40", ";", "sleep")
		svc.Resources = spec.Resources{Memory: memory, PIDs: pids, MemorySwap: memory, CPUSet: processors}
		return stackOf("one", svc)
	}
	h.up(with(128<<20, 50, "0"))
	web := h.one("one", "web")
	usage := func() int64 {
		n, _ := strconv.ParseInt(h.limit(web, "memory", "memory.usage_in_bytes", "memory.current"), 10, 64)
		return n
	}
	h.Eventually("it uses its memory", func() bool { return usage() > 40<<20 })
	_, err := h.Up(h.Context(), with(8<<20, 60, ""), UpOptions{}, nil)
	mentions(t, err, "service.web[1]", "old ones stay")
	if got := h.memoryLimit(web); got != "134217728" {
		t.Errorf("the limit is %s", got)
	}
	if got := h.limit(web, "pids", "pids.max", "pids.max"); got != "50" {
		t.Errorf("the limit of processes is %s", got)
	}
	if got := h.limit(web, "cpuset", "cpuset.cpus", "cpuset.cpus"); got != "0" {
		t.Errorf("the processors are %s", got)
	}
	after := h.one("one", "web")
	if after.State != planner.Running || after.View.State.PID != web.View.State.PID || after.Spec.Resources.Memory != 128<<20 || after.Updating {
		t.Errorf("the container is %s with pid %d, limit %d on record, updating %v", after.State, after.View.State.PID, after.Spec.Resources.Memory, after.Updating)
	}
	if n := h.up(with(128<<20, 50, "0")); n != 0 {
		t.Errorf("going back to what is did %d things", n)
	}
}

func TestAnUpdateThatACrashInterruptedIsFinished(t *testing.T) {
	h := newHost(t)
	svc := service("web", "sleep")
	svc.Resources.Memory = 64 << 20
	s := stackOf("one", svc)
	h.up(s)
	web := h.one("one", "web")
	_, err := h.stack("one").lock(h.Context(), nil) // by an operation that never ends
	h.Must(err)
	// As a daemon leaves it that is killed between the kernel and the record.
	h.Must(h.engine.Update(web.ID, func(rec *runtime.Record) { rec.Updating = true }))
	_, err = h.engine.SetLimits(h.Context(), web.ID, &spec.Service{Resources: spec.Resources{Memory: 256 << 20}})
	h.Must(err)
	h.close()
	h.open()
	h.Eventually("the next daemon has finished it", func() bool {
		return h.memoryLimit(web) == "67108864" && !h.one("one", "web").Updating
	})
	if n := h.up(s); n != 0 {
		t.Errorf("an up still does %d things", n)
	}
}

func TestLimitsOfTheLogChangeUnderTheRunningContainer(t *testing.T) {
	h := newHost(t)
	with := func(size string) *spec.Stack {
		svc := service("web", "cat")
		svc.StdinOpen = true
		svc.Logging = &spec.Logging{Options: map[string]string{"max-size": size, "max-file": "2"}}
		return stackOf("one", svc)
	}
	h.up(with("10m"))
	web := h.one("one", "web")
	stdin, err := h.engine.AttachStdin(h.Context(), web.ID)
	h.Must(err)
	defer stdin.Close()
	h.updates(with("1k"))
	if after := h.one("one", "web"); after.View.State.PID != web.View.State.PID {
		t.Error("the container is another one")
	}
	go func() { _, _ = stdin.WriteString(strings.Repeat("a line of the log\n", 100) + "the last line\n") }()
	log := filepath.Join(web.Dir, "log", "container.log")
	h.Eventually("the last line is logged", func() bool {
		data, _ := os.ReadFile(log)
		return strings.Contains(string(data), "the last line")
	})
	kept := 0
	h.Must(h.engine.Logs(h.Context(), web.ID, logs.Options{}, func(logs.Entry) error { kept++; return nil }))
	if kept == 0 || kept > 30 {
		t.Errorf("%d of 101 lines are kept in two files of 1 KiB", kept)
	}
}

func TestAnUpdateKeepsTheRestartThatIsDue(t *testing.T) {
	h := newHost(t)
	with := func(label string) *spec.Stack {
		svc := service("job", "exit", "3")
		svc.Restart = spec.Restart{Condition: spec.RestartAlways, MaxAttempts: 1, Delay: 2 * time.Second}
		svc.Labels = map[string]string{"a": label}
		return stackOf("one", svc)
	}
	h.up(with("1"))
	h.becomes("one", "job", "restarting", is(planner.Restarting))
	h.updates(with("2"))
	s := h.becomes("one", "job", "given up", func(s Status) bool { return s.State == planner.Exited })
	if s.Restarts != 1 || s.Labels["a"] != "2" {
		t.Errorf("%d restarts, labels %v", s.Restarts, s.Labels)
	}
}
