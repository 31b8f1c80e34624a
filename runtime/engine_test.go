package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

// host has one engine at a time, with real shims and containers.
type host struct {
	*runtimetest.Host
	*runtime.Engine
}

func newHost(t *testing.T) *host {
	h := &host{Host: runtimetest.New(t)}
	h.open()
	t.Cleanup(func() {
		for _, v := range h.List("") {
			h.Must(h.Stop(h.Context(), v.ID, ptr(time.Duration(0))))
			h.remove(v.ID)
		}
		h.Must(h.RemoveStack(h.Context(), "one"))
		h.Engine.Close()
	})
	return h
}

func (h *host) open() {
	h.Helper()
	engine, err := runtime.Open(h.Options())
	h.Must(err)
	h.Engine = engine
	go func() {
		for range engine.Events() { // ends with the test's process
		}
	}()
}

func ptr[T any](v T) *T { return &v }

// record of a container without a network of its own making.
func (h *host) record(name string, command ...string) runtime.Record {
	return runtime.Record{
		ID: runtime.NewID(), Name: name, Stack: "one", Service: name, Replica: 1, Image: runtimetest.Image, ImageID: h.ImageID,
		NetMode: runtime.NetHost, Created: time.Now(), Spec: spec.Service{Name: name, Image: runtimetest.Image, Command: &command, NetworkMode: "host"},
	}
}

func (h *host) create(name string, command ...string) runtime.View {
	h.Helper()
	v, err := h.Create(h.Context(), h.record(name, command...), func(*runtime.Record) error { return nil })
	h.Must(err)
	return v
}

func (h *host) start(name string, command ...string) runtime.View {
	h.Helper()
	v := h.create(name, command...)
	h.Must(h.Start(h.Context(), v.ID, runtime.StartInput{}))
	return h.view(v.ID)
}

func (h *host) view(id string) runtime.View {
	h.Helper()
	v, err := h.Get(id)
	h.Must(err)
	return v
}

func (h *host) remove(id string) {
	h.Helper()
	h.Must(h.Remove(h.Context(), id, func(runtime.View) error { return nil }))
}

// exit waits for a container's end.
func (h *host) exit(id string) int {
	h.Helper()
	wait, err := h.Waiter(id)
	h.Must(err)
	code, err := wait(h.Context())
	h.Must(err)
	return code
}

func (h *host) log(id string) string {
	h.Helper()
	var out strings.Builder
	h.Must(h.Logs(h.Context(), id, logs.Options{}, func(e logs.Entry) error {
		out.Write(e.Line)
		return nil
	}))
	return out.String()
}

func TestAContainersLife(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "echo", "hello", ";", "trap")
	if v.Phase != runtime.Made || v.Intent != runtime.IntentNone || v.Running() {
		t.Errorf("created: %s %q %s", v.Phase, v.Intent, v.State.Status)
	}
	h.Must(h.Start(h.Context(), v.ID, runtime.StartInput{}))
	v = h.view(v.ID)
	if !v.Running() || v.Intent != runtime.IntentRun || !runtimetest.Alive(v.State.PID) {
		t.Errorf("started: %s %q, process %d", v.State.Status, v.Intent, v.State.PID)
	}
	h.Eventually("it is ready", func() bool { return strings.Contains(h.log(v.ID), "ready") })
	if err := h.Remove(h.Context(), v.ID, nil); !errors.Is(err, runtime.ErrRunning) {
		t.Errorf("remove while it runs: %v", err)
	}
	h.Must(h.Stop(h.Context(), v.ID, nil))
	if v = h.view(v.ID); v.Running() || v.Intent != runtime.IntentStop || v.State.ExitCode != 3 {
		t.Errorf("stopped: %s %q, exit code %d", v.State.Status, v.Intent, v.State.ExitCode)
	}
	h.Must(h.Stop(h.Context(), v.ID, nil)) // again
	h.Must(h.Start(h.Context(), v.ID, runtime.StartInput{}))
	h.Eventually("its second run is in the same log", func() bool { return strings.Count(h.log(v.ID), "hello") == 2 })
	h.Must(h.Stop(h.Context(), v.ID, ptr(time.Duration(0))))
	if v = h.view(v.ID); v.State.ExitCode != 137 {
		t.Errorf("killed: exit code %d", v.State.ExitCode)
	}
	h.remove(v.ID)
	h.remove(v.ID) // again
	if _, err := h.Get(v.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if _, err := os.Stat(v.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

func TestACreateThatFailsIsFoundAndRemoved(t *testing.T) {
	h := newHost(t)
	odd := errors.New("odd")
	r := h.record("web", "sleep")
	_, err := h.Create(h.Context(), r, func(*runtime.Record) error { return odd })
	if !errors.Is(err, odd) {
		t.Errorf("error %v", err)
	}
	v := h.view(r.ID)
	if v.Phase != runtime.Making {
		t.Errorf("phase %s", v.Phase)
	}
	h.Engine.Close()
	h.open() // as after a crash
	if v = h.view(r.ID); v.Phase != runtime.Making {
		t.Errorf("phase %s to the next daemon", v.Phase)
	}
	h.remove(r.ID)
	if _, err := os.Stat(v.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

func TestARecordThatCantBeReadIsOfAHalfMadeContainer(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "sleep")
	h.Engine.Close()
	h.Must(os.WriteFile(filepath.Join(v.Dir, "container.json"), []byte(`{"id": "`), 0o600))
	h.open()
	if got := h.view(v.ID); got.Phase != runtime.Making || got.Stack != "one" {
		t.Errorf("phase %s, stack %q", got.Phase, got.Stack)
	}
}

func TestAStartThatIsRefusedLeavesTheContainerAsItWas(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "x")
	h.Must(h.Update(v.ID, func(r *runtime.Record) { r.Spec.Entrypoint = &[]string{"/no/such"} }))
	err := h.Start(h.Context(), v.ID, runtime.StartInput{})
	if !errors.Is(err, shim.ErrNoCommand) || !runtime.IsStartRefused(err) {
		t.Errorf("error %v", err)
	}
	if v = h.view(v.ID); v.Intent != runtime.IntentNone || v.Running() {
		t.Errorf("intent %q, status %s", v.Intent, v.State.Status)
	}
}

func TestARestartOfWhatWasStoppedMeanwhileIsRefused(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "exit", "1")
	h.exit(v.ID)
	h.Must(h.Stop(h.Context(), v.ID, nil))
	if err := h.Start(h.Context(), v.ID, runtime.StartInput{Again: true}); !errors.Is(err, runtime.ErrStopped) {
		t.Errorf("error %v", err)
	}
}

func TestAnEngineTakesOverFromAnother(t *testing.T) {
	h := newHost(t)
	runs, ends := h.start("runs", "sleep"), h.start("ends", "trap")
	h.Eventually("it is ready", func() bool { return strings.Contains(h.log(ends.ID), "ready") })
	h.Engine.Close()
	h.Must(syscall.Kill(ends.State.PID, syscall.SIGTERM))
	h.open()
	h.Must(h.Takeover(h.Context()))
	if v := h.view(runs.ID); !v.Running() || v.State.PID != runs.State.PID || v.State.Started != runs.State.Started {
		t.Errorf("what runs: %+v, was %+v", v.State, runs.State)
	}
	if code := h.exit(ends.ID); code != 3 {
		t.Errorf("what ended: exit code %d", code)
	}
	h.Must(h.Stop(h.Context(), runs.ID, ptr(time.Duration(0))))
}

func TestWhatRanUnderAKilledShimIsLostAndItsProcessesEnd(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "sleep")
	h.KillShim("one")
	if code := h.exit(v.ID); code != 137 {
		t.Errorf("exit code %d", code)
	}
	if got := h.view(v.ID); got.State.Error != runtime.ShimLost {
		t.Errorf("state %+v", got.State)
	}
	h.Must(h.Start(h.Context(), v.ID, runtime.StartInput{}))
	again := h.view(v.ID)
	if !again.Running() || again.State.PID == v.State.PID || again.State.Error != "" {
		t.Errorf("started again: %+v", again.State)
	}
	if runtimetest.Alive(v.State.PID) {
		t.Error("the process of the killed shim lives on")
	}
}

func TestAShimThatDiesWithoutADaemonIsNoticedByTheNext(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "sleep")
	h.Engine.Close()
	h.KillShim("one")
	h.Eventually("the shim is gone", func() bool { return h.ShimPID("one") == 0 || !runtimetest.Alive(h.ShimPID("one")) })
	h.open()
	h.Must(h.Takeover(h.Context()))
	if got := h.view(v.ID); got.Running() || got.State.Error != runtime.ShimLost {
		t.Errorf("state %+v", got.State)
	}
	if runtimetest.Alive(v.State.PID) {
		t.Error("the process of the killed shim lives on")
	}
}

func TestWhatRanBeforeAReboot(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "sleep")
	state := shim.State{ID: v.ID, Status: shim.Running, PID: 1, Started: time.Now().Add(-time.Hour).UTC(), Netns: "/proc/1/fd/9"}
	data, err := json.Marshal(state)
	h.Must(err)
	h.Engine.Close()
	h.Must(os.WriteFile(filepath.Join(v.Dir, "state.json"), data, 0o600)) // and nothing in the run folder
	h.open()
	h.Must(h.Takeover(h.Context()))
	if got := h.view(v.ID); got.Running() || got.State.Error != runtime.HostRestarted || got.State.Netns != "" {
		t.Errorf("state %+v", got.State)
	}
}

func TestAWaiterKnowsTheExitCodeOfWhatIsGone(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "exit", "7")
	wait, err := h.Waiter(v.ID)
	h.Must(err)
	h.exit(v.ID)
	h.remove(v.ID)
	if code, err := wait(h.Context()); err != nil || code != 7 {
		t.Errorf("%d, %v", code, err)
	}
}

func TestAWaiterOfWhatNeverRanEndsWithItsRemoval(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "sleep")
	wait, err := h.Waiter(v.ID)
	h.Must(err)
	done := make(chan error)
	go func() {
		_, err := wait(h.Context())
		done <- err
	}()
	h.remove(v.ID)
	if err := <-done; !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestAProbeThatPrintsMuchEnds(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "sleep")
	code, output, err := h.Probe(h.Context(), v.ID, []string{"/box", "lines", "100000", ";", "exit", "5"}, 20*time.Second)
	if err != nil || code != 5 || !strings.HasPrefix(output, "line 0\n") || len(output) > 1<<13 {
		t.Errorf("%d, %v, %d bytes", code, err, len(output))
	}
}

func TestAProbeThatTakesLongIsKilled(t *testing.T) {
	h := newHost(t)
	v := h.start("web", "sleep")
	_, output, err := h.Probe(h.Context(), v.ID, []string{"/box", "echo", "begun", ";", "sleep"}, 300*time.Millisecond)
	if !errors.Is(err, runtime.ErrTooLong) || output != "begun\n" {
		t.Errorf("error %v, output %q", err, output)
	}
	h.Must(h.Stop(h.Context(), v.ID, ptr(time.Duration(0))))
}

func TestManyMayAskForOneShimAndAnyMayGiveUp(t *testing.T) {
	h := newHost(t)
	v := h.create("web", "sleep")
	gone, cancel := context.WithCancel(h.Context())
	cancel()
	results := make(chan error)
	for i := range 8 {
		go func() {
			ctx := h.Context()
			if i%2 == 0 {
				ctx = gone
			}
			err := h.Start(ctx, v.ID, runtime.StartInput{})
			if i%2 == 0 && errors.Is(err, context.Canceled) {
				err = nil
			}
			results <- err
		}()
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if !h.view(v.ID).Running() {
		t.Error("it does not run")
	}
}
