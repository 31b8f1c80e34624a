package reconciler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
)

// How long a container without a health check has to listen on the ports that it publishes before it counts as ready all
// the same, and how often that is looked up: the kernel has no event for it.
const (
	listenPatience = 20 * time.Second
	firstListen    = 2 * time.Millisecond
	longestListen  = 100 * time.Millisecond
)

// ready returns when a container can serve: it is healthy or, without a health check, runs and listens on the ports that it
// publishes. The error, a *ContainerError, says why it can't any more.
func (r *Reconciler) ready(ctx context.Context, p *placement, warn func(string)) error {
	id := p.id
	v, err := r.engine.Get(id)
	if err != nil {
		return err
	}
	_, checked := r.healthcheck(ctx, v)
	began, pause := time.Now(), firstListen
	for {
		changed := r.Changed(v.Stack)
		if v, err = r.engine.Get(id); err != nil {
			return err
		}
		if err := r.bad(v, p); err != nil {
			return err
		}
		if p.mayEnd && v.Ended() {
			return nil
		}
		var again <-chan time.Time
		switch {
		case v.State.Status == "", !v.Running():
		case checked && v.Health == planner.Healthy:
			return nil
		case !checked:
			missing := silent(v)
			if missing == "" {
				return nil
			}
			if time.Since(began) > listenPatience {
				if warn != nil {
					warn(fmt.Sprintf("container %s doesn't listen on %s after %s; it serves all the same", v.Name, missing, listenPatience))
				}
				return nil
			}
			again = time.After(pause)
			pause = min(pause*3/2, longestListen)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return fmt.Errorf("container %s is not ready: %w", v.Name, ctx.Err())
		}
	}
}

// warmsUp tells whether a container is neither healthy nor unhealthy yet: word of either will come.
func (r *Reconciler) warmsUp(ctx context.Context, id string) bool {
	v, err := r.engine.Get(id)
	if err != nil || !v.Running() {
		return false
	}
	_, checked := r.healthcheck(ctx, v)
	return checked && v.Health != planner.Healthy && v.Health != planner.Unhealthy
}

// bad says why a container that was started by a plan is no good: it ended, was started again by its policy, or is unhealthy.
//
// What ended with its shim did nothing wrong: it is started again whatever its policy.
func (r *Reconciler) bad(v runtime.View, p *placement) error {
	if v.State.Error == runtime.ShimLost && !v.Running() && v.Phase == runtime.Made {
		p.restarts = v.Restarts + 1
		return nil
	}
	switch state := r.state(v); {
	case v.Phase != runtime.Made:
		return failed(v, "was removed")
	case state == planner.Created && v.State.Started.IsZero():
		return failed(v, "was never started")
	case p.mayEnd && v.Ended():
		return nil
	case state == planner.Exited, state == planner.Restarting:
		return failed(v, fmt.Sprintf("exited (%d)", v.State.ExitCode))
	case v.Restarts > p.restarts:
		return failed(v, "ended and was started again")
	default:
		_, err := r.healthy(v, state)
		return err
	}
}

// silent names a port that the container publishes and doesn't listen on; empty when there is none.
func silent(v runtime.View) string {
	listening := map[string]map[uint16]bool{}
	for _, ep := range v.Endpoints {
		for _, p := range ep.Ports {
			if p.Protocol != "tcp" && p.Protocol != "udp" {
				continue
			}
			if listening[p.Protocol] == nil {
				listening[p.Protocol] = listeners(v.State.PID, p.Protocol)
			}
			if !listening[p.Protocol][p.Target] {
				return fmt.Sprintf("port %d/%s", p.Target, p.Protocol)
			}
		}
	}
	return ""
}

// Socket states in /proc/net.
const (
	synReceived = "03"
	tcpListen   = "0A"
	udpBound    = "07"
)

// sockets calls yield with the state, the own port and the receive queue of each socket in a process's network namespace;
// the receive queue of one that listens are the connections that wait to be accepted.
func sockets(pid int, protocol string, yield func(state string, port uint16, queue uint64)) {
	for _, table := range []string{protocol, protocol + "6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // it ended, or has no such protocol
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text()) // number, own address, other address, state, queues
			if len(fields) < 5 {
				continue
			}
			_, hexPort, _ := strings.Cut(fields[1], ":")
			_, hexQueue, _ := strings.Cut(fields[4], ":")
			port, err := strconv.ParseUint(hexPort, 16, 16)
			if err != nil {
				continue // the headline
			}
			queue, _ := strconv.ParseUint(hexQueue, 16, 32)
			yield(fields[3], uint16(port), queue)
		}
		f.Close()
	}
}

// listeners are the ports that sockets in a process's network namespace wait on.
func listeners(pid int, protocol string) map[uint16]bool {
	waiting := map[string]string{"tcp": tcpListen, "udp": udpBound}[protocol]
	ports := map[uint16]bool{}
	sockets(pid, protocol, func(state string, port uint16, _ uint64) {
		if state == waiting {
			ports[port] = true
		}
	})
	return ports
}

// acceptPatience is how long a container gets to accept the connections that came before new ones were held.
const acceptPatience = time.Second

// awaitAccepts returns when no connection to a container is on its way, half-open, or waits to be accepted: those would be
// refused when its program stops listening, however gracefully it ends.
func awaitAccepts(ctx context.Context, v runtime.View) {
	ctx, cancel := context.WithTimeout(ctx, acceptPatience)
	defer cancel()
	began := time.Now()
	for pause := firstListen; ; pause = min(2*pause, longestListen) {
		waiting := time.Since(began) < netdriver.InFlight
		sockets(v.State.PID, "tcp", func(state string, _ uint16, queue uint64) {
			waiting = waiting || state == synReceived || state == tcpListen && queue > 0
		})
		if !waiting {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// isContainerFault tells whether an error is about what a container did, rather than about who waited for it.
func isContainerFault(err error) bool {
	var fault *ContainerError
	return errors.As(err, &fault)
}

// keptLines is how many lines of a failed container's log are kept with the error.
const keptLines = 10

// lastLines of a container's log, for an error that outlives it.
func (r *Reconciler) lastLines(ctx context.Context, id string) []string {
	var lines []string
	err := r.engine.Logs(ctx, id, logs.Options{Tail: keptLines}, func(e logs.Entry) error {
		lines = append(lines, strings.TrimRight(string(e.Line), "\r\n"))
		return nil
	})
	if err != nil {
		r.logf("last log lines of %.12s: %v", id, err)
	}
	return lines
}
