package host

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Container is a line of `stack ps --format json`.
type Container struct {
	ID, Name, Service, State, Health, Status string
	ExitCode                                 int
}

// Ps lists containers of the working folder's stack, the exited ones too.
func (h *Host) Ps(services ...string) []Container {
	h.T.Helper()
	return h.PsOf("", services...)
}

// PsOf lists containers of a stack by its name.
func (h *Host) PsOf(stack string, services ...string) []Container {
	h.T.Helper()
	args := []string{"ps", "-a", "--format", "json"}
	if stack != "" {
		args = append([]string{"-p", stack}, args...)
	}
	var found []Container
	for line := range strings.Lines(h.Stack(append(args, services...)...)) {
		var c Container
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			h.T.Fatalf("stack ps: %v in %s", err, line)
		}
		found = append(found, c)
	}
	return found
}

// One is a service's only container.
func (h *Host) One(service string) Container {
	h.T.Helper()
	all := h.Ps(service)
	if len(all) != 1 {
		h.T.Fatalf("%s has %d containers: %+v", service, len(all), all)
	}
	return all[0]
}

// IP is the container's address on its first network.
func (h *Host) IP(service string) string {
	h.T.Helper()
	return h.In(service, "sh", "-c", `ip -4 -o addr show dev eth0 | sed -E 's/.* inet ([0-9.]+).*/\1/'`)
}

// DaemonPID is the daemon's process id as the machine sees it.
func (h *Host) DaemonPID() int {
	h.T.Helper()
	pid, err := strconv.Atoi(h.Sh(`pgrep -f '^[^ ]*stack( .*)? daemon' | head -1`))
	h.must(err)
	return pid
}

// ShimPID is the process id of a stack's shim as the machine sees it.
func (h *Host) ShimPID(stack string) int {
	h.T.Helper()
	pid, err := strconv.Atoi(h.Sh(`pgrep -f 'stack-shim .*/shims/` + stack + `( |$)' | head -1`))
	h.must(err)
	return pid
}

// Kill sends SIGKILL to a process of the machine and waits until it is gone.
func (h *Host) Kill(pid int) {
	h.T.Helper()
	p := strconv.Itoa(pid)
	h.Sh(`kill -9 ` + p)
	h.Eventually("process "+p+" is gone", func() bool {
		// With its last thread: until then its sockets are open, though the process may be a zombie by then.
		return h.Sh(`[ ! -e /proc/`+p+` ] || { ps -o stat= -p `+p+` | grep -q Z && [ $(ls /proc/`+p+`/task | wc -l) -le 1 ]; } && echo gone || true`) == "gone"
	})
}
