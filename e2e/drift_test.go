package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/damage"
	"github.com/stack-run/stack/e2e/host"
)

// mend does the damage and returns how long it took to be put right.
func mend(h *host.Host, d damage.Damage) time.Duration {
	h.T.Helper()
	r := h.Run(h.Command("bash", "-c", d.Script()))
	n, err := strconv.ParseInt(strings.TrimSpace(r.Stdout), 10, 64)
	if err != nil || r.Code != 0 {
		h.T.Errorf("%s: %v", d.Name, r)
	}
	return time.Duration(n) * time.Microsecond
}

// longestRepair is what a repair may take on a machine that is busy with other tests; see `make bench` for what it takes.
const longestRepair = 10 * time.Second

func TestWhatOthersBreakIsRepaired(t *testing.T) {
	h := start(t)
	h.Up(damage.File("busybox"))
	h.Eventually("it answers", func() bool { return h.Run(h.Command("sh", "-c", damage.Answers)).Code == 0 })
	table := ""
	for _, d := range damage.All() {
		took := mend(h, d)
		table += fmt.Sprintf("\n%-40s %7.0f ms", d.Name, float64(took)/1e6)
		if took > longestRepair {
			t.Errorf("%s: repaired after %s", d.Name, took)
		}
		h.Eventually("all is well after: "+d.Name, func() bool { return h.Try("status").Code == 0 })
	}
	t.Log(table)
	contains(t, "the daemon's log", h.Sh(`cat $STACK_ROOT/daemon.log`), "drifted: killed from outside", "repair network", "written anew")
}

func TestDriftIsShownAndNotRepairedWhereTheStackIsSuspended(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		suspend bool
	}{"stack suspend": {damage.File("busybox"), true}, "x-stack": {"x-stack: {reconcile: observe}\n" + damage.File("busybox"), false}} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			h.Up(c.file)
			if c.suspend {
				h.Stack("suspend")
			}
			h.Kill(h.DaemonPID())
			h.Stack("version") // the next daemon keeps to it
			h.Sh(damage.All()[0].Do)
			h.Eventually("the status tells", func() bool {
				r := h.Try("status")
				return r.Code == 2 && strings.Contains(r.Stdout, "killed from outside")
			})
			contains(t, "the plan", h.Try("plan").Stdout, "start")
			equal(t, "web", h.One("web").State, "exited")
			if c.suspend {
				h.Stack("resume")
				h.Eventually("it is kept again", func() bool { return h.Try("status").Code == 0 })
			}
		})
	}
}

func TestDataOfADamagedVolumeIsNeverGuessed(t *testing.T) {
	h := start(t)
	h.Up(damage.File("busybox"))
	h.In("web", "sh", "-c", "echo precious >/data/file; sync")
	h.Sh(`mv $STACK_ROOT/volumes/work_data ../away`)
	h.Eventually("the status tells", func() bool {
		r := h.Try("status", "--format", "json")
		return r.Code == 2 && strings.Contains(r.Stdout, "volume.data") && strings.Contains(r.Stdout, "removed")
	})
	equal(t, "an empty volume in its place", h.Sh(`ls $STACK_ROOT/volumes | grep data || true`), "")
	equal(t, "web, which has it mounted", h.In("web", "cat", "/data/file"), "precious")
	h.Sh(`mv ../away $STACK_ROOT/volumes/work_data`)
	h.Eventually("all is well", func() bool { return h.Try("status").Code == 0 })
}

func TestAMountThatIsTakenAwayAgainAndAgainComesBack(t *testing.T) {
	h := start(t)
	h.Up(damage.File("busybox"))
	h.In("web", "sh", "-c", "echo precious >/memory/file")
	for range 5 {
		h.Sh(`umount $STACK_ROOT/volumes/work_memory/_data`)
		h.Eventually("the mount is back, as the container has it", func() bool {
			return h.Run(h.Command("grep", "-qs", "precious", h.Root+"/volumes/work_memory/_data/file")).Code == 0
		})
	}
}
