package e2e

import (
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

func TestAFullDiskFailsPlainlyAndHealsWhenThereIsRoom(t *testing.T) {
	h := start(t, host.SmallRoot(64<<20))
	h.Write("", `services: {web: {image: python:3-alpine, command: [sleep, infinity], init: true}}`)
	r := h.Fails([]string{"up", "-d"}, "python:3-alpine", "space")
	if strings.Contains(r.Stderr, "panic") {
		t.Error(r)
	}
	h.Write("", `services: {web: {image: busybox, command: [sleep, infinity], init: true}}`)
	h.Stack("up", "-d", "--wait") // what the failed pull had written is gone
	h.Sh(`cat /dev/zero >$STACK_ROOT/filler 2>/dev/null || true; sync`)
	equal(t, "a container on a full disk", h.In("web", "echo", "fine"), "fine")
	h.Write("other/compose.yaml", `services: {more: {image: busybox, command: [sleep, infinity], init: true, configs: [{source: c, target: /c}]}}
configs: {c: {content: "x"}}`)
	h.Fails([]string{"--project-directory", "other", "up", "-d"}, "space")
	h.Sh(`rm $STACK_ROOT/filler`)
	h.Stack("--project-directory", "other", "up", "-d", "--wait")
}
