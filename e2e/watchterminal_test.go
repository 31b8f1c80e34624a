package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestWatchOnATerminalCountsRepeatedSavesAndLeavesItAsItWas(t *testing.T) {
	h := start(t)
	file := func(color string) {
		h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: {COLOR: `+color+`}
    develop: {watch: [{path: ./src, target: /app, action: sync}]}
`)
	}
	file("blue")
	h.Sh("mkdir -p src")
	const width = 60
	tty := openTerminal(t, width, 24)
	shows := func(text string) {
		t.Helper()
		h.Eventually("the terminal shows "+text, func() bool { return strings.Contains(strings.ReplaceAll(tty.screen(), "\n", ""), text) })
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal shows:\n%s", tty.screen())
		}
	})
	watch := func(args ...string) *exec.Cmd {
		cmd := h.Command(append([]string{"stack", "watch"}, args...)...)
		tty.own(cmd)
		h.Background(cmd)
		return cmd
	}
	ends := func(cmd *exec.Cmd, how string) {
		t.Helper()
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		equal(t, "the end", exit.String(), how)
		if now := tty.settings(); now != tty.before {
			t.Errorf("the terminal is set to %+v instead of %+v", now, tty.before)
		}
	}

	cmd := watch()
	shows("Watch enabled")
	// A line that is longer than the screen is wide takes two rows of it, and both are written over.
	long := "a-file-with-a-name-that-is-too-long-for-a-line"
	for _, times := range []string{long + "  ", "×2", "×3"} {
		h.Sh("echo " + times + " > src/" + long)
		shows("synced src/" + long)
		shows(times)
	}
	h.Sh("echo x > src/other")
	shows("synced src/other → /app/other")
	screen := strings.ReplaceAll(tty.screen(), "\n", "")
	for text, want := range map[string]int{"synced src/" + long: 1, "×3": 1, "×2": 0, "Watch enabled": 1, "Started": 1, "synced src/other": 1} {
		if got := strings.Count(screen, text); got != want {
			t.Errorf("%q is to be seen %d times instead of %d", text, got, want)
		}
	}
	file("red")
	shows("Applied")
	shows(`environment.COLOR: "blue" → "red"`)
	for _, text := range []string{"synced src/" + long, "Watch enabled", "Plan: 1 to recreate."} {
		if !strings.Contains(strings.ReplaceAll(tty.screen(), "\n", ""), text) {
			t.Errorf("%q is not to be seen any more", text)
		}
	}
	if _, err := tty.master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	ends(cmd, "exit status 130")
	h.Eventually("the last line is whole, and the cursor below it", func() bool {
		return strings.HasSuffix(tty.screen(), "Watch disabled") && tty.x == 0
	})
	for _, c := range []struct {
		signal syscall.Signal
		how    string
	}{{syscall.SIGTERM, "exit status 130"}, {syscall.SIGKILL, "signal: killed"}} {
		enabled := strings.Count(tty.printed(), "Watch enabled")
		cmd := watch("--no-up")
		h.Eventually("another watch", func() bool { return strings.Count(tty.printed(), "Watch enabled") > enabled })
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		ends(cmd, c.how)
	}
}
