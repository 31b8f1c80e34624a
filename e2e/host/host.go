// Package host gives each test a Linux machine of its own, with Stack on it and a registry that has the images of package
// images, and checks at the test's end that Stack left the machine clean.
//
// The machine shares the kernel and the file system with the real one, and nothing else: processes, mounts, network, cgroups
// and /run are its own (machine.go). So tests run in parallel, change sysctls and firewall rules as they like, and a killed
// test leaves nothing.
package host

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/images"
)

// Host is a machine with Stack.
type Host struct {
	T      testing.TB
	Dir    string // the working folder of commands, with the test's stack files
	Root   string // STACK_ROOT
	RunDir string // STACK_RUN, as the machine sees it

	machine  *Machine
	bin      string
	env      []string
	before   state
	servers  []*images.Running
	config   string
	disk     int64
	mirrored bool
}

// Mirror is the machine's registry that mirrors docker.io.
const Mirror = "127.0.0.1:5000"

// Option changes a Host before it boots.
type Option func(*Host)

// Config appends lines to the host configuration, which names the mirror already.
func Config(yaml string) Option { return func(h *Host) { h.config += yaml } }

// NoRegistry leaves the mirror out.
func NoRegistry() Option {
	return func(h *Host) { h.config = "addressPools: [{base: 10.210.0.0/16, size: 24}]\n" }
}

// SmallRoot puts the daemon's root on a disk of its own with so many bytes.
func SmallRoot(bytes int64) Option { return func(h *Host) { h.disk = bytes } }

// New boots a machine for the test. It stops and is checked when the test ends.
func New(t testing.TB, options ...Option) *Host {
	t.Helper()
	dir := t.TempDir()
	h := &Host{
		T: t, Dir: filepath.Join(dir, "work"), Root: filepath.Join(dir, "root"), RunDir: "/run/stack",
		config: "addressPools: [{base: 10.210.0.0/16, size: 24}]\nregistries:\n  docker.io:\n    mirrors: [http://" + Mirror + "]\n",
	}
	plain := h.config
	for _, o := range options {
		o(h)
	}
	bin, err := Programs()
	h.must(err)
	h.bin = bin
	h.must(os.MkdirAll(h.Dir, 0o755))
	for _, d := range []string{filepath.Dir(dir), dir} { // as /var/lib is: the root of a user namespace goes through it
		h.must(os.Chmod(d, 0o755))
	}
	h.must(os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(h.config), 0o644))
	h.env = append(cleanEnv(),
		"PATH="+h.bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME="+dir,
		"STACK_ROOT="+h.Root, "STACK_RUN="+h.RunDir, "STACK_CONFIG="+filepath.Join(dir, "config.yaml"))
	h.mirrored = strings.HasPrefix(h.config, plain)
	h.boot()
	t.Cleanup(func() { h.must(h.machine.Stop()) })
	h.before = h.observe()
	t.Cleanup(h.finish)
	return h
}

func (h *Host) boot() {
	h.T.Helper()
	machine, err := Boot()
	h.must(err)
	h.machine = machine
	if h.disk > 0 {
		h.Sh(fmt.Sprintf(`[ -e ../disk ] || { truncate -s %d ../disk; mkfs.ext4 -q -m 0 ../disk; }
			mkdir -p $STACK_ROOT; mount -o loop ../disk $STACK_ROOT; rm -rf $STACK_ROOT/lost+found`, h.disk))
	}
	if h.mirrored {
		h.Registry(images.Registry{Addr: Mirror})
	}
}

// Reboot takes the machine's power away and boots it again: all processes, mounts, links and /run are gone, the disk stays.
func (h *Host) Reboot() {
	h.T.Helper()
	for _, server := range h.servers {
		server.Stop()
	}
	h.servers = nil
	h.must(h.machine.Stop())
	h.boot()
	h.before = h.observe()
}

// cleanEnv is the environment without what would steer Stack or Compose.
func cleanEnv() []string {
	env := []string{"LANG=C.UTF-8", "NO_COLOR=1"}
	for _, name := range []string{"GOCOVERDIR", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Registry starts one more registry on the machine, before anything is up; without a Storage it holds the images of package images.
func (h *Host) Registry(r images.Registry) *images.Running {
	h.T.Helper()
	if r.Storage == "" {
		storage, err := images.Storage(h.T.Context())
		h.must(err)
		r.Storage = storage
	}
	r.Start = h.start
	running, err := images.Start(h.T.Context(), r)
	h.must(err)
	h.servers = append(h.servers, running)
	h.before = h.observe()
	return running
}

// Command prepares a program on the machine, in the working folder, for Run or Background.
func (h *Host) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = h.Dir, h.env
	return cmd
}

func (h *Host) start(cmd *exec.Cmd) error { return h.machine.Start(cmd) }

// Background runs a program on the machine until stop is called, at the latest until the test ends.
func (h *Host) Background(cmd *exec.Cmd) (stop func()) {
	h.T.Helper()
	h.must(h.start(cmd))
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	h.T.Cleanup(stop)
	return stop
}

// Result of a program.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// String shows what the program printed, for messages.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.Code, r.Stdout, r.Stderr)
}

// commandTimeout bounds every command: one that hangs fails its test rather than the whole run.
const commandTimeout = 3 * time.Minute

// Run runs a program on the machine to its end.
func (h *Host) Run(cmd *exec.Cmd) Result {
	h.T.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	h.must(h.start(cmd))
	timer := time.AfterFunc(commandTimeout, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		h.T.Errorf("%q did not end within %v", cmd.Args[4:], commandTimeout)
	}
	if err != nil && cmd.ProcessState == nil {
		h.must(err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Try runs the stack command and returns what came of it.
func (h *Host) Try(args ...string) Result {
	h.T.Helper()
	return h.Run(h.Command(append([]string{"stack"}, args...)...))
}

// Stack runs the stack command, which must succeed, and returns its standard output.
func (h *Host) Stack(args ...string) string {
	h.T.Helper()
	r := h.Try(args...)
	if r.Code != 0 {
		h.T.Fatalf("stack %s: %v", strings.Join(args, " "), r)
	}
	return r.Stdout
}

// Fails runs the stack command, which must fail and mention each of the words.
func (h *Host) Fails(args []string, words ...string) Result {
	h.T.Helper()
	r := h.Try(args...)
	if r.Code == 0 {
		h.T.Fatalf("stack %s succeeded: %v", strings.Join(args, " "), r)
	}
	for _, word := range words {
		if !strings.Contains(r.Stdout+r.Stderr, word) {
			h.T.Errorf("stack %s does not say %q: %v", strings.Join(args, " "), word, r)
		}
	}
	return r
}

// Sh runs a shell script on the machine, which must succeed, and returns its output without the last newline.
func (h *Host) Sh(script string) string {
	h.T.Helper()
	r := h.Run(h.Command("bash", "-euo", "pipefail", "-c", script))
	if r.Code != 0 {
		h.T.Fatalf("%s: %v", script, r)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// In runs a command in a service's first container, which must succeed, and returns its output without the last newline.
func (h *Host) In(service string, args ...string) string {
	h.T.Helper()
	return strings.TrimSuffix(h.Stack(append([]string{"exec", "-T", service}, args...)...), "\n")
}

// Write writes a file below the working folder; an empty path is compose.yaml.
func (h *Host) Write(path, content string) {
	h.T.Helper()
	if path == "" {
		path = "compose.yaml"
	}
	file := filepath.Join(h.Dir, path)
	h.must(os.MkdirAll(filepath.Dir(file), 0o755))
	h.must(os.WriteFile(file, []byte(content), 0o644))
}

// Up writes the stack file and brings it up in the background, waiting until all runs and is healthy.
func (h *Host) Up(file string, args ...string) {
	h.T.Helper()
	h.Write("", file)
	h.Stack(append([]string{"up", "-d", "--wait"}, args...)...)
}

// Get asks for a page on the machine and returns its body.
func (h *Host) Get(url string) string {
	h.T.Helper()
	r := h.Run(h.Command("curl", "-sS", "--fail", "--max-time", "20", url))
	if r.Code != 0 {
		h.T.Fatalf("GET %s: %v", url, r)
	}
	return r.Stdout
}

// Copy copies a folder of the repository into the working folder.
func (h *Host) Copy(folder string) {
	h.T.Helper()
	h.must(os.CopyFS(h.Dir, os.DirFS(filepath.Join(Repository(), folder))))
}

// Eventually waits until the condition holds; what says what was waited for.
func (h *Host) Eventually(what string, condition func() bool) {
	h.T.Helper()
	if !h.within(45*time.Second, condition) {
		h.T.Fatalf("still not so: %s", what)
	}
}

func (h *Host) within(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); !condition(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

func (h *Host) must(err error) {
	h.T.Helper()
	if err != nil {
		h.T.Fatal(err)
	}
}
