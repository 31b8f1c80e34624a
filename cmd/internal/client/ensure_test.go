package client_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/server"
)

// TestMain lets the test program be the daemon that Ensure starts.
func TestMain(m *testing.M) {
	switch os.Getenv("STACK_TEST_DAEMON") {
	case "":
		os.Exit(m.Run())
	case "serve":
		os.Exit(serveAsDaemon())
	case "fail":
		client.Reporter()(errors.New("no space left on device"))
	}
	os.Exit(1) // "die": without a word
}

// serveAsDaemon notes its start and serves until it is told to shut down.
func serveAsDaemon() int {
	report := client.Reporter()
	starts, err := os.OpenFile(filepath.Join(os.Getenv("STACK_ROOT"), "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = starts.WriteString("started\n")
	}
	if err != nil {
		report(err)
		return 1
	}
	l, err := server.Listen(client.Socket(os.Getenv("STACK_RUN")))
	report(err)
	if err != nil {
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d := &daemon{stop: stop}
	if server.New(d, server.Options{}).Serve(ctx, l) != nil {
		return 1
	}
	return 0
}

type daemon struct {
	server.Backend
	stop func()
}

func (d *daemon) Info(context.Context) api.DaemonInfo { return api.DaemonInfo{PID: os.Getpid()} }
func (d *daemon) Shutdown(context.Context) error      { d.stop(); return nil }

func ensureOptions(t *testing.T, how string) client.EnsureOptions {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test starts daemons, which needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return client.EnsureOptions{
		Root: filepath.Join(dir, "root"), RunDir: filepath.Join(dir, "run"),
		Command: []string{self}, Env: []string{"STACK_TEST_DAEMON=" + how},
	}
}

func TestEnsureStartsOneDaemonForAll(t *testing.T) {
	o := ensureOptions(t, "serve")
	pids := make([]int, 8)
	var all sync.WaitGroup
	for i := range pids {
		all.Go(func() {
			c, err := client.Ensure(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			info, err := c.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			pids[i] = info.PID
		})
	}
	all.Wait()
	starts, err := os.ReadFile(filepath.Join(o.Root, "starts"))
	if err != nil || string(starts) != "started\n" {
		t.Errorf("starts: %q, %v", starts, err)
	}
	for _, pid := range pids {
		if pid != pids[0] {
			t.Errorf("daemons %v", pids)
			break
		}
	}
	c, err := client.Dial(t.Context(), client.Socket(o.RunDir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	session, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pids[0]), "stat"))
	if err == nil && strings.Fields(string(session[strings.LastIndexByte(string(session), ')'):]))[3] != strconv.Itoa(pids[0]) {
		t.Errorf("the daemon is not in a session of its own: %s", session)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	process, err := os.FindProcess(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	process.Wait() // ours, as its parent, to clear away
}

func TestEnsureTellsWhyADaemonDidNotStart(t *testing.T) {
	for how, want := range map[string]string{
		"fail": "the daemon did not start: no space left on device",
		"die":  "the daemon did not start: it ended without a word",
	} {
		t.Run(how, func(t *testing.T) {
			o := ensureOptions(t, how)
			_, err := client.Ensure(t.Context(), o)
			if e := unwrapped(err); e.Message != want || !strings.Contains(e.Remedy, "daemon.log") {
				t.Errorf("error is %#v", err)
			}
		})
	}
}

func TestDialSaysThatNoneIsRunning(t *testing.T) {
	if _, err := client.Dial(t.Context(), filepath.Join(t.TempDir(), "none.sock")); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("error is %v", err)
	}
}

// What the daemon starts must not keep the way to report open, or a failing start would never be noticed.
func TestReportersPipeIsNotInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd())) // a duplicate is inherited, as descriptor 3 of a started daemon is
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Setenv(client.ReadyEnv, strconv.Itoa(fd))
	report := client.Reporter()
	child := exec.Command("/bin/sh", "-c", "test ! -e /proc/self/fd/"+strconv.Itoa(fd))
	if err := child.Run(); err != nil {
		t.Errorf("a child has the descriptor: %v", err)
	}
	report(nil)
	text := make([]byte, 16)
	n, _ := r.Read(text)
	if string(text[:n]) != client.ReadyWord {
		t.Errorf("reported %q", text[:n])
	}
}
