package host

import (
	"bufio"
	"os/exec"
	"strings"
)

// Neighbour is another host on the machine's network: a network namespace beside it, joined by a cable.
type Neighbour struct {
	h   *Host
	pid string
}

// Addresses of the machine and its neighbour on the cable.
const (
	HostIPv4      = "10.99.0.1"
	HostIPv6      = "fd99::1"
	NeighbourIPv4 = "10.99.0.2"
	NeighbourIPv6 = "fd99::2"
)

// Beside starts what keeps another host's network namespace, and returns its process on the machine.
func Beside(start func(*exec.Cmd) error) (pid string, err error) {
	cmd := exec.Command("unshare", "--net", "sh", "-c", "echo $$; exec sleep infinity")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = start(cmd)
	}
	if err == nil {
		pid, err = bufio.NewReader(out).ReadString('\n')
	}
	return strings.TrimSpace(pid), err
}

// Enter is what a program on the other host is run by.
func Enter(pid string) []string { return []string{"nsenter", "--net=/proc/" + pid + "/ns/net"} }

// Cable is the script that joins the other host to the machine.
func Cable(pid string) string {
	return `ip link add cable type veth peer name cable netns ` + pid + `
		ip addr add ` + HostIPv4 + `/24 dev cable; ip addr add ` + HostIPv6 + `/64 dev cable nodad; ip link set cable up
		` + strings.Join(Enter(pid), " ") + ` sh -euc 'ip link set lo up
			ip addr add ` + NeighbourIPv4 + `/24 dev cable; ip addr add ` + NeighbourIPv6 + `/64 dev cable nodad
			ip link set cable up; ip route add default via ` + HostIPv4 + `'`
}

// Neighbour adds another host. Call it before anything is up.
func (h *Host) Neighbour() *Neighbour {
	h.T.Helper()
	pid, err := Beside(h.start)
	h.must(err)
	n := &Neighbour{h: h, pid: pid}
	h.Sh(Cable(pid))
	h.Eventually("the cable is up", func() bool { return h.Sh(`cat /sys/class/net/cable/operstate`) == "up" })
	h.before = h.observe()
	return n
}

// Sh runs a shell script on the neighbour, which must succeed, and returns its output.
func (n *Neighbour) Sh(script string) string {
	n.h.T.Helper()
	r := n.Try(script)
	if r.Code != 0 {
		n.h.T.Fatalf("on the neighbour: %s: %v", script, r)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// Background runs a program on the neighbour until the test ends.
func (n *Neighbour) Background(args ...string) {
	n.h.T.Helper()
	n.h.Background(n.Command(args...))
}

// Command prepares a program on the neighbour.
func (n *Neighbour) Command(args ...string) *exec.Cmd {
	return n.h.Command(append(Enter(n.pid), args...)...)
}

// Try runs a shell script on the neighbour and returns what came of it.
func (n *Neighbour) Try(script string) Result {
	n.h.T.Helper()
	return n.h.Run(n.Command("bash", "-euo", "pipefail", "-c", script))
}
