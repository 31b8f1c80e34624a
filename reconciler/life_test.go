package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/spec"
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
	if keepers := len(h.stack("one").keepers); keepers != 0 {
		t.Errorf("%d keepers of removed containers are kept", keepers)
	}
}

func TestAContainerThatFailsIsRestartedAsOftenAsItsPolicySays(t *testing.T) {
	h := newHost(t)
	svc := service("job", "exit", "3")
	svc.Restart = spec.Restart{Condition: spec.RestartOnFailure, MaxAttempts: 2}
	h.up(stackOf("one", svc))
	s := h.becomes("one", "job", "given up", func(s Status) bool { return s.State == planner.Exited })
	if s.Restarts != 2 || s.View.State.ExitCode != 3 {
		t.Errorf("%d restarts, exit code %d", s.Restarts, s.View.State.ExitCode)
	}
	h.Eventually("its network is taken down", func() bool { return h.one("one", "job").Connected == "" })
}

func TestAContainerIsRestartingFromItsEndToItsNextStart(t *testing.T) {
	h := newHost(t)
	svc := service("job", "exit", "3")
	svc.Restart = spec.Restart{Condition: spec.RestartAlways, MaxAttempts: 1, Delay: 300 * time.Millisecond}
	h.up(stackOf("one", svc))
	s := h.becomes("one", "job", "restarting", func(s Status) bool { return s.State == planner.Restarting && !s.NextTry.IsZero() })
	if s.Restarts != 0 {
		t.Errorf("%d restarts before the first", s.Restarts)
	}
	for !s.NextTry.IsZero() || s.Restarts == 0 { // until the last attempt is on its way
		if s.State == planner.Exited {
			t.Fatal("it counts as exited while its restart is due")
		}
		s = h.one("one", "job")
	}
	h.becomes("one", "job", "exited", is(planner.Exited))
}

func TestStoppingEndsTheRestarts(t *testing.T) {
	h := newHost(t)
	svc := service("job", "exit", "3")
	svc.Restart = spec.Restart{Condition: spec.RestartAlways, Delay: time.Hour}
	h.up(stackOf("one", svc))
	s := h.becomes("one", "job", "restarting", is(planner.Restarting))
	h.Must(h.stopContainer(h.Context(), stopRequest{id: s.ID}))
	s = h.one("one", "job")
	if s.State != planner.Exited || !s.NextTry.IsZero() || s.Connected != "" {
		t.Errorf("state %s, next try %s, connected %q", s.State, s.NextTry, s.Connected)
	}
}

func TestARestartThatFailsBacksOffAndIsTriedAgain(t *testing.T) {
	h := newHost(t)
	svc := service("job", "sleep")
	svc.Restart = spec.Restart{Condition: spec.RestartAlways}
	path := filepath.Join(t.TempDir(), "secret")
	h.Must(os.WriteFile(path, []byte("x"), 0o600))
	svc.Secrets = []spec.FileMount{{Source: "s", Target: "/run/secrets/s"}}
	s := stackOf("one", svc)
	s.Secrets = map[string]*spec.File{"s": {Name: "s", File: path}}
	h.up(s)
	h.Must(os.Remove(path)) // no start works now
	h.Must(h.engine.Signal(h.Context(), h.one("one", "job").ID, syscall.SIGKILL))
	s3 := h.becomes("one", "job", "tried in vain", func(s Status) bool { return s.Restarts >= 3 && s.State == planner.Restarting })
	k := h.stack("one").keeper(s3.ID)
	k.mu.Lock()
	failures := k.failures
	k.mu.Unlock()
	if failures < 3 {
		t.Errorf("after %d restarts in vain %d failures are counted", s3.Restarts, failures)
	}
	h.Must(os.WriteFile(path, []byte("x"), 0o600))
	h.becomes("one", "job", "running", is(planner.Running))
}

func TestContainersComeBackWhenTheirShimIsKilled(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep"), service("db", "sleep")))
	before := h.one("one", "web")
	h.KillShim("one")
	after := h.becomes("one", "web", "running again", func(s Status) bool {
		return s.State == planner.Running && s.View.State.PID != before.View.State.PID
	})
	if runtimetest.Alive(before.View.State.PID) {
		t.Error("the process of the killed shim lives on")
	}
	if after.ID != before.ID {
		t.Error("it is another container")
	}
	h.becomes("one", "db", "running again", is(planner.Running))
}

func TestANewDaemonTakesOver(t *testing.T) {
	h := newHost(t)
	again := service("again", "sleep")
	again.Restart = spec.Restart{Condition: spec.RestartAlways}
	h.up(stackOf("one", service("web", "sleep"), again, service("once", "trap")))
	web, restarts, once := h.one("one", "web"), h.one("one", "again"), h.one("one", "once")
	h.close()
	for _, s := range []Status{restarts, once} {
		signal := syscall.SIGKILL
		if s.Service == "once" { // it ends by itself, with 3
			signal = syscall.SIGTERM
			h.Eventually("it listens to signals", func() bool {
				data, err := os.ReadFile(filepath.Join(s.Dir, "log", "container.log"))
				return err == nil && bytes.Contains(data, []byte("ready"))
			})
		}
		h.Must(syscall.Kill(s.View.State.PID, signal))
		h.Eventually("the shim has seen the exit", func() bool {
			data, err := os.ReadFile(filepath.Join(s.Dir, "state.json"))
			return err == nil && json.Valid(data) && !runtimetest.Alive(s.View.State.PID) && bytes.Contains(data, []byte("exited"))
		})
	}
	h.open()
	if s := h.one("one", "web"); s.State != planner.Running || s.View.State.PID != web.View.State.PID {
		t.Errorf("web is %s with process %d, was %d", s.State, s.View.State.PID, web.View.State.PID)
	}
	h.becomes("one", "again", "running again", func(s Status) bool { return s.State == planner.Running && s.Restarts == 1 })
	s := h.one("one", "once")
	if s.State != planner.Exited || s.View.State.ExitCode != 3 || s.Connected != "" {
		t.Errorf("once is %s with code %d, connected %q", s.State, s.View.State.ExitCode, s.Connected)
	}
	if s.View.State.Netns != "" {
		t.Error("the network namespace of what ended is still held")
	}
}

func TestWhatACrashLeftHalfMadeIsRemoved(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"))
	h.up(s)
	made := h.one("one", "web")
	h.close()
	half := made.Record
	half.ID, half.Name, half.Phase, half.Intent = runtime.NewID(), "one-half-1", runtime.Making, runtime.IntentNone
	half.Connected, half.Mounts, half.Volumes, half.Anonymous = "", nil, nil, nil
	dir := filepath.Join(filepath.Dir(made.Dir), half.ID)
	h.Must(os.MkdirAll(dir, 0o711))
	data, err := json.Marshal(half)
	h.Must(err)
	h.Must(os.WriteFile(filepath.Join(dir, "container.json"), data, 0o600))
	torn := filepath.Join(filepath.Dir(made.Dir), runtime.NewID())
	h.Must(os.MkdirAll(torn, 0o711))
	h.open()
	for _, dir := range []string{dir, torn} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if n := h.up(s); n != 0 {
		t.Errorf("up did %d things", n)
	}
}

func TestAFailedRecreateKeepsTheAnonymousVolume(t *testing.T) {
	h := newHost(t)
	svc := service("db", "write", "/data/kept", "it", ";", "sleep")
	s := stackOf("one", svc)
	s.Networks["default"].IPAM = []spec.IPAMPool{{Subnet: "10.251.7.0/24"}}
	h.up(s)
	old := h.one("one", "db")
	if len(old.Anonymous) != 1 {
		t.Fatalf("anonymous volumes: %v", old.Anonymous)
	}
	vol, err := h.volumes.Get(old.Anonymous[0])
	h.Must(err)
	kept := func() string {
		data, _ := os.ReadFile(filepath.Join(vol.Mountpoint, "kept"))
		return string(data)
	}
	h.Eventually("it has written its data", func() bool { return kept() == "it" })
	changed := *svc
	changed.Networks = map[string]*spec.Attachment{"default": {IPv4: "10.251.8.9"}} // outside of the subnet
	wrong := *s
	wrong.Services = map[string]*spec.Service{"db": &changed}
	_, err = h.Up(h.Context(), &wrong, UpOptions{}, nil)
	mentions(t, err, "service.db", "10.251.8.9")
	if data := kept(); data != "it" {
		t.Errorf("data: %q", data)
	}
}

func TestARemoveThatACrashInterruptedKeepsTheVolumesItWasToKeep(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("db", "sleep")))
	db := h.one("one", "db")
	h.Must(h.stopContainer(h.Context(), stopRequest{id: db.ID, grace: &zero}))
	h.Must(h.engine.Update(db.ID, func(rec *runtime.Record) {
		rec.Phase, rec.DropVolumes, rec.Anonymous = runtime.Removing, true, disposable(db.View, false)
	}))
	h.close()
	h.open()
	for _, c := range h.Containers("one") {
		if c.ID == db.ID { // another one is made in its place
			t.Errorf("it is still there: %v", c)
		}
	}
	if _, err := h.volumes.Get(db.Anonymous[0]); err != nil {
		t.Error(err)
	}
}

func TestAOneOffContainerGoesWhenItEnds(t *testing.T) {
	for what, end := range map[string]func(h *host, id string) error{
		"by itself": func(h *host, id string) error { return h.Start(h.Context(), id) },
		"by a stop": func(h *host, id string) error {
			if err := h.Start(h.Context(), id); err != nil {
				return err
			}
			return h.stopContainer(h.Context(), stopRequest{id: id, grace: &zero})
		},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			svc := service("job", "sleep")
			if what == "by itself" {
				svc = service("job", "exit", "4")
			}
			v, err := h.Run(h.Context(), stackOf("one", svc), svc, RunOptions{Remove: true}, nil)
			h.Must(err)
			wait, err := h.engine.Waiter(v.ID)
			h.Must(err)
			h.Must(end(h, v.ID))
			code, err := wait(h.Context())
			h.Must(err)
			if want := map[string]int{"by itself": 4, "by a stop": 137}[what]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			h.Eventually("it is removed", func() bool { return len(h.Containers("one")) == 0 })
			if volumes, err := h.volumes.List(); err != nil || len(volumes) > 0 {
				t.Errorf("volumes: %v, %v", volumes, err)
			}
		})
	}
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"))
	_, err := h.Run(h.Context(), s, s.Services["web"], RunOptions{Name: "mine"}, nil)
	h.Must(err)
	_, err = h.Run(h.Context(), s, s.Services["web"], RunOptions{Name: "mine"}, nil)
	if !errors.Is(err, ErrNameTaken) {
		t.Errorf("error %v", err)
	}
}

func TestAnUpWhoseClientIsGoneSaysSoAndASecondOneConverges(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"), service("db", "sleep"))
	ctx, cancel := context.WithCancel(h.Context())
	_, err := h.Up(ctx, s, UpOptions{}, func(e Event) {
		if e.Kind == "done" && e.Action.Kind == planner.CreateContainer {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for _, v := range h.Containers("one") {
		if v.State == planner.Broken {
			t.Errorf("%s is half-made", v.Name)
		}
	}
	h.up(s)
	h.becomes("one", "web", "running", is(planner.Running))
	h.becomes("one", "db", "running", is(planner.Running))
}

func TestPortsAreHeldOverARestartAndGivenBackByAStop(t *testing.T) {
	h := newHost(t)
	svc := service("web", "sleep")
	svc.Restart = spec.Restart{Condition: spec.RestartAlways}
	svc.Ports = []spec.Port{{Target: 80, Protocol: "tcp"}}
	h.up(stackOf("one", svc))
	before := h.one("one", "web")
	port := before.Endpoints[0].Ports[0]
	h.Must(h.engine.Signal(h.Context(), before.ID, syscall.SIGKILL))
	after := h.becomes("one", "web", "running again", func(s Status) bool { return s.State == planner.Running && s.Restarts == 1 })
	if got := after.Endpoints[0].Ports[0]; got != port {
		t.Errorf("port %v, was %v", got, port)
	}
	taken := service("other", "sleep")
	taken.Ports = []spec.Port{{Target: 80, Protocol: "tcp", Published: strconv.Itoa(int(port.HostPort))}}
	other := stackOf("two", taken)
	_, err := h.Up(h.Context(), other, UpOptions{}, nil)
	mentions(t, err, "service.other[1]", strconv.Itoa(int(port.HostPort)), "in use", before.Name)
	h.Must(h.stopContainer(h.Context(), stopRequest{id: before.ID, grace: &zero}))
	h.up(other)
}

func TestAOneOffContainerThatNobodyStartsGoes(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("job", "sleep"))
	for _, start := range []bool{false, true} {
		v, err := h.Run(h.Context(), s, s.Services["job"], RunOptions{Remove: true}, nil)
		h.Must(err)
		if start {
			h.Must(h.Start(h.Context(), v.ID))
		}
		h.expire(h.stack("one"), v.ID, time.Millisecond)
		if !start {
			h.Eventually("it is removed", func() bool { return len(h.Containers("one")) == 0 })
		}
	}
	if s := h.one("one", "job"); s.State != planner.Running {
		t.Errorf("the one that was started is %s", s.State)
	}
}

func TestTheSignalThatStopsEndsTheRestarts(t *testing.T) {
	h := newHost(t)
	svc := service("web", "trap") // ends with 3 at SIGTERM
	svc.Restart = spec.Restart{Condition: spec.RestartAlways}
	h.up(stackOf("one", svc))
	kill := func(signal string) {
		_, err := h.Do(h.Context(), "one", nil, func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
			return planner.Kill(o, d, planner.KillOptions{Signal: signal})
		}, nil)
		h.Must(err)
	}
	web := h.one("one", "web")
	h.Eventually("it listens to signals", func() bool {
		data, err := os.ReadFile(filepath.Join(web.Dir, "log", "container.log"))
		return err == nil && bytes.Contains(data, []byte("ready"))
	})
	kill("HUP")
	if s := h.one("one", "web"); s.Intent != runtime.IntentRun {
		t.Errorf("after SIGHUP the intent is %q", s.Intent)
	}
	kill("TERM")
	s := h.becomes("one", "web", "ended", is(planner.Exited))
	if s.View.State.ExitCode != 3 || s.Restarts != 0 {
		t.Errorf("exit code %d, %d restarts", s.View.State.ExitCode, s.Restarts)
	}
}

func TestASecondOperationSaysThatItWaits(t *testing.T) {
	h := newHost(t)
	unlock, err := h.stack("one").lock(h.Context(), nil)
	h.Must(err)
	ctx, cancel := context.WithCancel(h.Context())
	_, err = h.Up(ctx, stackOf("one", service("web", "sleep")), UpOptions{}, func(e Event) {
		if e.Kind == "note" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	unlock()
}

func TestCloseDoesNotWaitForWhatHangs(t *testing.T) {
	h := newHost(t)
	hangs := make(chan struct{})
	h.spawn(func() { <-hangs })
	start := time.Now()
	h.Reconciler.Close()
	if took := time.Since(start); took > 2*closePatience {
		t.Errorf("Close took %s", took)
	}
	close(hangs)
	h.close()
	h.open()
}

func TestAStopThatACrashInterruptedIsFinishedByTheNextDaemon(t *testing.T) {
	h := newHost(t)
	h.up(stackOf("one", service("web", "sleep")))
	web := h.one("one", "web")
	h.Must(h.engine.Update(web.ID, func(rec *runtime.Record) { rec.Intent = runtime.IntentStop }))
	h.close()
	h.Must(syscall.Kill(web.View.State.PID, syscall.SIGKILL))
	h.Eventually("the shim has seen the exit", func() bool {
		data, err := os.ReadFile(filepath.Join(web.Dir, "state.json"))
		return err == nil && bytes.Contains(data, []byte("exited"))
	})
	h.open()
	if s := h.one("one", "web"); s.Connected != "" || s.View.State.Netns != "" || s.State != planner.Exited {
		t.Errorf("%s, connected to %q in %q", s.State, s.Connected, s.View.State.Netns)
	}
}

// A down keeps what its stack file no longer declares. One that was interrupted is finished without that file.
func TestADownThatTheLoopFinishesRemovesOnlyTheVolumesItWasAskedTo(t *testing.T) {
	h := newHost(t)
	svc := service("db", "sleep")
	svc.Mounts = []spec.Mount{
		{Type: spec.MountVolume, Source: "kept", Target: "/kept"}, {Type: spec.MountVolume, Source: "gone", Target: "/gone"},
	}
	s := stackOf("one", svc)
	s.Volumes = map[string]*spec.Volume{"kept": {Key: "kept", Name: "one_kept"}, "gone": {Key: "gone", Name: "one_gone"}}
	h.up(s)
	ctx, cancel := context.WithCancel(h.Context())
	later := *s
	later.Volumes = map[string]*spec.Volume{"gone": s.Volumes["gone"]}
	_, err := h.Down(ctx, "one", &later, planner.DownOptions{Volumes: true, Timeout: &zero}, func(e Event) {
		if e.Kind == "start" {
			cancel() // as a client that goes away after the first action
		}
	})
	if err == nil {
		t.Error("the down was not interrupted")
	}
	h.Eventually("the loop has finished the down", func() bool {
		_, err := h.volumes.Get("one_gone")
		return len(h.Containers("one")) == 0 && err != nil
	})
	if _, err := h.volumes.Get("one_kept"); err != nil {
		t.Errorf("the volume that the file no longer declared: %v", err)
	}
}
