package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// The stacks of the crash matrix are small: each action of each operation is a crash of its own.
const (
	matrixBase = `
services:
  db: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s, volumes: ["data:/data"]}
  web:
    image: busybox
    init: true
    command: [httpd, -f, -p, "80", -h, /etc]
    environment: {VERSION: "1"}
    stop_grace_period: 1s
    depends_on: [db]
    ports: ["8080:80"]
    deploy: {replicas: 1}
volumes: {data: }
`
	matrixGone = "\n  gone: {image: busybox, init: true, command: [sleep, infinity], stop_grace_period: 1s}"
)

// matrixOp is one operation of the crash matrix.
type matrixOp struct {
	name          string
	before, after string // stack files; empty: nothing is up
	command       string
	down          bool
	replicas      int // of web in the end
}

func matrixOps() []matrixOp {
	changed := strings.NewReplacer(`VERSION: "1"`, `VERSION: "2"`, "replicas: 1", "replicas: 2", `ports: ["8080:80"]`, `ports: ["80"]`).Replace(matrixBase)
	// What dies with its shim has failed as far as a rollout knows; with `failure_action: pause` it would rest there, as told.
	rolling := func(version string) string {
		return strings.NewReplacer(`VERSION: "1"`, fmt.Sprintf("VERSION: %q", version), "deploy: {replicas: 1}",
			"deploy: {replicas: 2, update_config: {order: start-first, parallelism: 1, monitor: 10ms, failure_action: continue}}").Replace(matrixBase)
	}
	return []matrixOp{
		{name: "up", after: matrixBase, command: "up -d --wait", replicas: 1},
		{name: "up with changes", before: strings.Replace(matrixBase, "\nvolumes:", matrixGone+"\nvolumes:", 1), after: changed, command: "up -d --wait --remove-orphans", replicas: 2},
		{name: "a rollout", before: rolling("1"), after: rolling("2"), command: "up -d --wait", replicas: 2},
		{name: "down", before: matrixBase, command: "down -v -t 1", down: true},
	}
}

var matrixPoints atomic.Int64

// TestKilledAfterAnyActionItConvergesByItselfAndLeavesNothing kills the daemon, the shim and the command after each single
// action of each operation, one after the other: nobody helps, and in the end all is as the operation was to make it.
func TestKilledAfterAnyActionItConvergesByItselfAndLeavesNothing(t *testing.T) {
	t.Cleanup(func() { t.Logf("the crash matrix tried %d points", matrixPoints.Load()) })
	for _, op := range matrixOps() {
		for _, victim := range []string{"daemon", "shim", "command"} {
			t.Run(op.name+", the "+victim+" is killed", func(t *testing.T) {
				h := start(t)
				h.Write("", matrixBase)
				h.Stack("pull", "-q")
				h.Stack("daemon", "--stop")
				points := 0
				for n := 1; crash(h, op, victim, n); n++ {
					points = n
					if t.Failed() {
						t.Fatalf("after action %d", n)
					}
				}
				matrixPoints.Add(int64(points))
				t.Logf("%d points", points)
				if points < 4 {
					t.Errorf("only %d actions: that proves little", points)
				}
			})
		}
	}
}

// crash brings up what the operation starts from, kills the victim after the operation's n-th action, and looks what comes of
// it. It returns false when the operation has fewer actions.
func crash(h *host.Host, op matrixOp, victim string, n int) bool {
	h.T.Helper()
	if op.before != "" {
		h.Up(op.before)
		h.Stack("daemon", "--stop")
	}
	if op.after != "" {
		h.Write("", op.after)
	}
	hit := h.Sh(fmt.Sprintf(`
		rm -f ../paused
		STACK_PAUSE_AFTER=%d:$PWD/../paused stack daemon >>$STACK_ROOT/daemon.log 2>&1 &
		until [ -S $STACK_RUN/stack.sock ]; do sleep 0.01; done
		daemon=$(pgrep -f '%s' | head -1)
		stack %s >../out 2>&1 & command=$!
		while [ ! -e ../paused ] && kill -0 $command 2>/dev/null; do sleep 0.01; done
		if [ ! -e ../paused ]; then wait $command || true; stack daemon --stop; echo no; exit; fi
		case %s in
		daemon) kill -9 $daemon; while kill -0 $daemon 2>/dev/null; do sleep 0.01; done; rm ../paused;;
		shim) kill -9 $(pgrep -f '%s') 2>/dev/null || true; rm ../paused;;
		command) kill -9 $command; rm ../paused;;
		esac
		wait $command 2>/dev/null || true
		echo yes`, n, daemon, op.command, victim, shim))
	if hit == "no" {
		return false
	}
	h.Stack("version") // a daemon, where there is none
	if op.down {
		h.Eventually("the stack is gone", func() bool { return strings.TrimSpace(h.Stack("ls", "-a", "-q")) == "" })
	} else {
		h.Eventually(fmt.Sprintf("all is well after action %d", n), func() bool {
			return h.Try("status").Code == 0 && h.Try("plan", "--remove-orphans").Code == 0 && len(h.Ps("web")) == op.replicas
		})
		for _, c := range h.Ps() {
			equal(h.T.(*testing.T), c.Name, c.State, "running")
		}
		h.Stack("down", "-v", "-t", "1")
	}
	h.Stack("daemon", "--stop")
	h.AssertClean()
	return true
}
