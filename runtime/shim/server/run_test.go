package server_test

import (
	"testing"

	"github.com/stack-run/stack/runtime/shim"
)

func TestRun(t *testing.T) {
	h := newHost(t)
	r := h.bundle("hello", nil, "echo", "hello", ";", "err", "world", ";", "exit", "7")
	h.run(r)
	state := h.exit("hello")
	if state.ExitCode != 7 || state.Status != shim.Exited || state.Error != "" {
		t.Errorf("state %+v", state)
	}
	if out := h.output(r); out != "hello\nworld\n" && out != "world\nhello\n" {
		t.Errorf("output %q", out)
	}
}
