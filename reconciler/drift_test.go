package reconciler

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/spec"
)

func TestWhatIsKilledFromOutsideComesBackAndWhatEndsByItselfDoesNot(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep"), service("job", "exit", "137")))
	web := h.one("one", "web")
	h.Must(syscall.Kill(web.View.State.PID, syscall.SIGKILL))
	h.becomes("one", "web", "running again", func(s Status) bool {
		return s.State == planner.Running && s.View.State.PID != web.View.State.PID
	})
	h.becomes("one", "job", "exited", is(planner.Exited))
	h.kept("one")
	if s := h.one("one", "job"); s.State != planner.Exited || s.Restarts != 0 {
		t.Errorf("what ended by itself, with the code of one that was killed, is %s after %d restarts", s.State, s.Restarts)
	}
}

func TestOfAStackThatIsOnlyObservedWhatWasKilledStaysDownUntilItIsKeptAgain(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	h.Must(h.Suspend("one", true))
	h.Must(syscall.Kill(h.one("one", "web").View.State.PID, syscall.SIGKILL))
	h.becomes("one", "web", "exited", is(planner.Exited))
	h.kept("one")
	if got := h.one("one", "web").State; got != planner.Exited {
		t.Errorf("it is %s", got)
	}
	h.Must(h.Suspend("one", false))
	h.becomes("one", "web", "running", is(planner.Running))
}

func TestAContainerWhoseFolderWasRemovedIsMadeAgain(t *testing.T) {
	for _, what := range []string{".", "upper"} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			h.up(stackOf("one", service("web", "sleep")))
			h.kept("one")
			web := h.one("one", "web")
			// The daemon may write the record anew into a folder that is half removed.
			h.Eventually("it is removed", func() bool { return os.RemoveAll(filepath.Join(web.Dir, what)) == nil })
			h.Eventually("there is another one, running", func() bool {
				all := h.engine.Service("one", "web")
				return len(all) == 1 && all[0].ID != web.ID && all[0].Running()
			})
			if runtimetest.Alive(web.View.State.PID) {
				t.Error("the old process lives on")
			}
		})
	}
}

func TestTheDaemonsOwnFilesAreWrittenAnewWhenOthersChangeThem(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	h.kept("one")
	dir := filepath.Join(h.Root, "stacks", "one")
	record := filepath.Join(h.one("one", "web").Dir, "container.json")
	network := filepath.Join(h.Root, "networks", "one_default.json")
	revision := filepath.Join(dir, "revisions", "1.json")
	for _, path := range []string{record, filepath.Join(dir, "intent.json"), network} {
		want, err := os.ReadFile(path)
		h.Must(err)
		for what, damage := range map[string]func() error{
			"removed": func() error { return os.Remove(path) },
			"changed": func() error { return os.WriteFile(path, []byte("{}\n"), 0o600) },
		} {
			h.Must(damage())
			h.Eventually(filepath.Base(path)+" is written anew after it was "+what, func() bool {
				got, err := os.ReadFile(path)
				lines := strings.Split(strings.TrimSpace(string(want)), "\n")
				return err == nil && strings.Contains(string(got), lines[len(lines)-1])
			})
		}
	}
	h.Must(os.WriteFile(revision, []byte("nonsense"), 0o600))
	h.Eventually("the desired state is on disk again", func() bool {
		rev, err := h.Revision("one", 0)
		return err == nil && rev.Stack.Services["web"] != nil
	})
	// The next one is changed without a trace in its size and time.
	revision = filepath.Join(dir, "revisions", "2.json")
	content, err := os.ReadFile(revision)
	h.Must(err)
	info, err := os.Stat(revision)
	h.Must(err)
	h.Must(os.WriteFile(revision, bytes.ReplaceAll(content, []byte(`"web"`), []byte(`"wob"`)), 0o600))
	h.Must(os.Chtimes(revision, info.ModTime(), info.ModTime()))
	h.Eventually("the desired state is on disk once more", func() bool {
		rev, err := h.Revision("one", 0)
		return err == nil && rev.Number == 3 && rev.Stack.Services["web"] != nil
	})
	before := h.one("one", "web")
	h.close()
	h.open()
	h.kept("one")
	if after := h.one("one", "web"); after.ID != before.ID || after.View.State.PID != before.View.State.PID {
		t.Error("the container is not the same any more")
	}
}

func TestAnAlteredLimitIsSetAgain(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	web.Resources.Memory = 64 << 20
	h.up(stackOf("one", web))
	v := h.one("one", "web").View
	files := map[string]string{"memory.limit_in_bytes": "33554432", "pids.max": "7", "cpu.shares": "100"}
	if h.engine.CgroupV2() {
		files = map[string]string{"memory.max": "33554432", "pids.max": "7"}
	}
	for name, other := range files {
		var path string
		for _, dir := range h.engine.CgroupDirs(v) {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				path = filepath.Join(dir, name)
			}
		}
		want, err := os.ReadFile(path)
		h.Must(err)
		h.Must(os.WriteFile(path, []byte(other), 0))
		h.Eventually(name+" is as before", func() bool {
			got, err := os.ReadFile(path)
			return err == nil && string(got) == string(want)
		})
	}
	h.Eventually("nothing more is found", func() bool { return len(h.stack("one").findings.of(v.ID)) == 0 })
	if h.one("one", "web").View.State.PID != v.State.PID {
		t.Error("it is another process")
	}
}

// withVolume is a stack of one service with a volume.
func withVolume(options map[string]string) *spec.Stack {
	web := service("web", "sleep")
	web.Mounts = []spec.Mount{{Type: spec.MountVolume, Source: "v", Target: "/v"}}
	s := stackOf("one", web)
	s.Volumes = map[string]*spec.Volume{"v": {Key: "v", Name: "one_v", DriverOpts: options}}
	return s
}

func TestADamagedVolumeIsReportedAndNothingIsDoneAboutIt(t *testing.T) {
	h := newHost(t)
	h.up(withVolume(nil))
	web := h.one("one", "web")
	data := filepath.Join(h.Root, "volumes", "one_v")
	h.Must(os.Rename(data, data+".away"))
	h.kept("one")
	if _, err := os.Stat(data); err == nil {
		t.Error("an empty volume was put in the place of the one that is gone")
	}
	status, err := h.StackStatus(h.Context(), "one")
	h.Must(err)
	told := false
	for _, a := range status.Addresses {
		told = told || a.Address == "volume.v" && !a.OK && strings.Contains(a.Drift, "removed")
	}
	if !told {
		t.Errorf("the status does not tell: %+v", status.Addresses)
	}
	if now := h.one("one", "web"); now.ID != web.ID || now.State != planner.Running {
		t.Error("the container was touched")
	}
	h.Must(os.Rename(data+".away", data))
	h.Eventually("all is well", func() bool {
		status, err := h.StackStatus(h.Context(), "one")
		return err == nil && status.OK
	})
	h.Must(os.Remove(filepath.Join(data, "volume.json")))
	h.Eventually("its record is back", func() bool {
		_, err := h.volumes.Get("one_v")
		return err == nil
	})
}

func TestAMountThatWasTakenAwayIsBroughtBack(t *testing.T) {
	h := newHost(t)
	h.up(withVolume(map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}))
	data := filepath.Join(h.Root, "volumes", "one_v", "_data")
	h.Must(os.WriteFile(filepath.Join(data, "precious"), nil, 0o600))
	there := func() bool {
		_, err := os.Stat(filepath.Join(data, "precious"))
		return err == nil
	}
	h.Must(unix.Unmount(data, 0))
	h.Eventually("it is mounted again, as the container has it", there)
	h.close()
	h.open()
	h.Must(unix.Unmount(data, 0))
	h.Eventually("it is mounted again by the next daemon", there)
}

func TestARestartPolicyCountsWhatTheLoopStarted(t *testing.T) {
	h := newHost(t)
	web := service("web", "exit", "1")
	web.Restart = spec.Restart{Condition: spec.RestartOnFailure, MaxAttempts: 2, Delay: time.Hour}
	h.up(stackOf("one", web))
	h.becomes("one", "web", "restarting", is(planner.Restarting))
	h.close()
	h.open()
	h.becomes("one", "web", "started by the loop", func(s Status) bool { return s.Restarts == 1 })
	h.Must(h.engine.Update(h.one("one", "web").ID, func(r *runtime.Record) { r.Spec.Restart.Delay = time.Millisecond }))
}
