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
	// What was deleted before is free only when the journal says so, and where no large write fits small ones may: full is
	// when not even one block can be added after a sync.
	h.Sh(`mkdir $STACK_ROOT/filler; cd $STACK_ROOT/filler; i=0
		while cat /dev/zero >>big 2>/dev/null; sync; head -c 4096 /dev/zero >$i 2>/dev/null; do
			while i=$((i+1)); head -c 4096 /dev/zero >$i 2>/dev/null; do :; done
			i=$((i+1))
		done`)
	equal(t, "a container on a full disk", h.In("web", "echo", "fine"), "fine")
	h.Write("other/compose.yaml", `services: {more: {image: busybox, command: [sleep, infinity], init: true, configs: [{source: c, target: /c}]}}
configs: {c: {content: "x"}}`)
	h.Fails([]string{"--project-directory", "other", "up", "-d"}, "space")
	h.Sh(`rm -r $STACK_ROOT/filler`)
	h.Stack("--project-directory", "other", "up", "-d", "--wait")
}
