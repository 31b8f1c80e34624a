package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// built are the programs under test, made once.
var built struct{ dir, shim, box string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "stack-shim-test")
	if err == nil {
		built.dir, built.shim, built.box = dir, filepath.Join(dir, "stack-shim"), filepath.Join(dir, "box")
		flags := []string{"-tags", "seccomp osusergo netgo", "-ldflags", "-s -w -extldflags -static"}
		if os.Getenv("STACK_SHIM_RACE") != "" { // for hunting races: such a program is too large for some of the tests
			flags = []string{"-race", "-tags", "seccomp osusergo netgo"}
		}
		err = build(built.shim, "../../../cmd/stack-shim", nil, flags...)
	}
	if err == nil {
		err = build(built.box, "./testdata/box", []string{"CGO_ENABLED=0"}, "-ldflags", "-s -w")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(out, pkg string, env []string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, said)
	}
	return nil
}

// host is one shim with its folders, and what the test may ask about them.
type host struct {
	*shim.Client
	t      testing.TB
	dir    string // of the shim
	root   string // of bundles
	cgroup string
	events <-chan shim.Event
	image  sync.Mutex // held while the image is made
}

// newHost starts a shim. When the test ends, so do the shim and its containers, and nothing may be left.
func newHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("containers need root")
	}
	base := t.TempDir()
	h := &host{t: t, dir: filepath.Join(base, "run"), root: filepath.Join(base, "root"), cgroup: "/stack-test-" + rand.Text()[:10]}
	h.spawn()
	t.Cleanup(h.clean)
	return h
}

func (h *host) spawn() {
	h.t.Helper()
	c, err := shim.Spawn(ctx(h.t), shim.SpawnOptions{Program: built.shim, Dir: h.dir})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Client = c
	if h.events, err = c.Watch(context.Background()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) clean() {
	if err := h.Shutdown(context.Background(), true); err != nil {
		h.t.Errorf("shutdown: %v", err)
	}
	h.Close()
	if h.t.Failed() {
		if data, err := os.ReadFile(filepath.Join(h.dir, shim.LogName)); err == nil {
			h.t.Logf("the shim's log:\n%s", data)
		}
	}
	if left := h.leftovers(); len(left) > 0 {
		h.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// leftovers lists what is still there of this host's containers: cgroups, mounts, runtime state.
func (h *host) leftovers() (left []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*" + h.cgroup, "/sys/fs/cgroup" + h.cgroup} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.root) || strings.Contains(line, h.dir) {
			left = append(left, line)
		}
	}
	entries, _ := os.ReadDir(h.dir)
	for _, e := range entries {
		switch e.Name() {
		case shim.LogName, "lock", "spawn.lock":
		default:
			left = append(left, filepath.Join(h.dir, e.Name()))
		}
	}
	return left
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return c
}

// bundle writes a bundle whose root holds the box program; change adjusts its configuration.
func (h *host) bundle(id string, change func(*specs.Spec), args ...string) shim.StartRequest {
	h.t.Helper()
	dir := filepath.Join(h.root, id)
	image := filepath.Join(h.root, "image")
	for _, d := range []string{dir, filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(image, "etc"), filepath.Join(image, "tmp"),
		filepath.Join(image, "proc"), filepath.Join(image, "dev")} {
		must(h.t, os.MkdirAll(d, 0o755))
	}
	h.image.Lock()
	defer h.image.Unlock()
	if _, err := os.Stat(filepath.Join(image, "box")); err != nil {
		must(h.t, os.Link(built.box, filepath.Join(image, "box")))
		must(h.t, os.WriteFile(filepath.Join(image, "etc/passwd"), []byte("root:x:0:0::/root:/box\nuser:x:1000:1001::/home/user:/box\n"), 0o644))
		must(h.t, os.WriteFile(filepath.Join(image, "etc/group"), []byte("root:x:0:\nuser:x:1001:\nmore:x:1002:user\n"), 0o644))
		must(h.t, os.WriteFile(filepath.Join(image, "etc/plain"), []byte("text"), 0o644))
	}
	caps := []string{"CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	spec := &specs.Spec{
		Version: "1.0.2", Hostname: id, // which older runtime programs know, too
		Process: &specs.Process{
			Args: append([]string{"/box"}, args...), Cwd: "/", Env: []string{"PATH=/bin:/", "HOME=/root"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: h.cgroup + "/stack/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: "pid"}, {Type: "mount"}, {Type: "ipc"}, {Type: "uts"}},
			Resources:   &specs.LinuxResources{},
			MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	if change != nil {
		change(spec)
	}
	data, err := json.Marshal(spec)
	must(h.t, err)
	must(h.t, os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600))
	return shim.StartRequest{
		ID: id, Bundle: dir,
		Rootfs: []shim.Mount{{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + image, "upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work")}}},
		Log: shim.Log{Driver: "json-file", Path: filepath.Join(dir, "log", "json.log")},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run starts a container and fails the test when that fails.
func (h *host) run(r shim.StartRequest) shim.StartReply {
	h.t.Helper()
	reply, err := h.Start(ctx(h.t), r)
	must(h.t, err)
	return reply
}

// exit waits for a container's exit event.
func (h *host) exit(id string) shim.State {
	h.t.Helper()
	return h.event(id, shim.KindExit).State
}

// event waits for one event, passing over others.
func (h *host) event(id, kind string) shim.Event {
	h.t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		select {
		case e, ok := <-h.events:
			if !ok {
				h.t.Fatal("the shim ended")
			}
			if e.Kind == kind && e.State.ID == id {
				return e
			}
		case <-timeout:
			h.t.Fatalf("no %s of %s", kind, id)
		}
	}
}

// output is what a container wrote to both streams, as its log has it.
func (h *host) output(r shim.StartRequest) string {
	h.t.Helper()
	data, err := os.ReadFile(r.Log.Path)
	must(h.t, err)
	var all strings.Builder
	for line := range bytes.Lines(data) {
		var entry struct{ Log string }
		must(h.t, json.Unmarshal(line, &entry))
		all.WriteString(entry.Log)
	}
	return all.String()
}

// eventually waits until ok returns true: for states the kernel reaches by itself and tells nobody about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

// alive tells whether a process runs (a zombie does not).
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(data, ')')
	return i > 0 && len(data) > i+2 && data[i+2] != 'Z' && syscall.Kill(pid, 0) == nil
}

func itoa(n int) string { return fmt.Sprint(n) }
