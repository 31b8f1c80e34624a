package reconciler

import (
	"testing"

	"github.com/stack-run/stack/planner"
)

func TestUpAgainChangesNothingAndDownLeavesNothing(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"), service("db", "sleep"))
	if n := h.up(s); n == 0 {
		t.Error("the first up did nothing")
	}
	if n := h.up(s); n != 0 {
		t.Errorf("the second up did %d things", n)
	}
	h.becomes("one", "web", "running", is(planner.Running))
	h.down("one")
	if left := h.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
