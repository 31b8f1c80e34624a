package e2e

import (
	"strings"
	"testing"
)

const sleeper = `services: {a: {image: busybox, init: true, command: [sleep, infinity], environment: {COLOR: blue}}}`

func TestExecRunsACommandInTheContainer(t *testing.T) {
	h := start(t)
	h.Up(sleeper)
	equal(t, "output", h.In("a", "sh", "-c", "echo $COLOR $OTHER; echo no >&2"), "blue")
	r := h.Try("exec", "-T", "-e", "OTHER=red", "-w", "/tmp", "-u", "nobody", "a", "sh", "-c", "echo $OTHER $PWD $(id -un); echo no >&2; exit 7")
	equal(t, "output", r.Stdout, "red /tmp nobody\n")
	equal(t, "error output", r.Stderr, "no\n")
	if r.Code != 7 {
		t.Errorf("exit code %d", r.Code)
	}
	if r := h.Try("exec", "-T", "a", "no-such-program"); r.Code != 127 {
		t.Errorf("a program that does not exist: %v", r)
	}
	cmd := h.Command("stack", "exec", "-T", "a", "wc", "-c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 3_000_000))
	equal(t, "bytes through standard input", strings.TrimSpace(h.Run(cmd).Stdout), "3000000")
	big := h.Try("exec", "-T", "a", "sh", "-c", "head -c 3000000 /dev/zero")
	if len(big.Stdout) != 3_000_000 {
		t.Errorf("%d bytes through standard output", len(big.Stdout))
	}
}

func TestExecHasATerminal(t *testing.T) {
	h := start(t)
	h.Up(sleeper)
	out := h.Sh(`stty -F /dev/tty size 2>/dev/null || true
		script -qefc "stty rows 33 cols 77; stack exec a sh -c 'tty; stty size; exit 5'" /dev/null && exit 1; echo code $?`)
	contains(t, "the session", out, "/dev/pts/", "33 77", "code 5")
	out = h.Sh(`printf 'echo $((6*7))\nexit\n' | script -qefc "stack exec a sh" /dev/null`)
	contains(t, "a shell", out, "42")
}

func TestRunMakesAContainerOfItsOwn(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  tool: {image: busybox, command: [echo, default], environment: {COLOR: blue}, depends_on: [dep]}
  dep: {image: busybox, init: true, command: [sleep, infinity]}
`)
	r := h.Try("run", "--rm", "-T", "-e", "COLOR=red", "tool", "sh", "-c", "echo $COLOR; nslookup dep >/dev/null && echo found; exit 6")
	contains(t, "output", r.Stdout, "red\nfound\n")
	if r.Code != 6 {
		t.Errorf("exit code %d: %v", r.Code, r)
	}
	equal(t, "what is left", h.One("dep").State, "running")
	if got := len(h.Ps()); got != 1 {
		t.Errorf("%d containers left", got)
	}
}

// An exec that dies between libcontainer's stages must not hold the container's end.
func TestDownEndsWhileProgramsAreBeingExecuted(t *testing.T) {
	h := start(t)
	h.Write("", sleeper)
	for range 8 {
		h.Stack("up", "-d", "--wait")
		var loops []func()
		for range 4 {
			loops = append(loops, h.Background(h.Command("sh", "-c", `while stack exec -T a true; do touch executed; done`)))
		}
		h.Eventually("programs are executed", func() bool { return h.Sh(`rm executed 2>/dev/null && echo yes || true`) == "yes" })
		h.Stack("down", "-t", "0")
		for _, stop := range loops {
			stop()
		}
	}
}
