package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

const insideVariable = "STACK_WATCH_TEST_INSIDE"

// inside runs the test once more in a user namespace of its own, whose limits are its own, too; there it returns true.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=yes")
	id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("it did not run:\n%s", out)
	}
	return false
}

func set(t *testing.T, name string, value int) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), fmt.Append(nil, value), 0); err != nil {
		t.Fatal(err)
	}
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not say %q", text, word)
		}
	}
}

func TestFoldersBeyondTheKernelsLimitAreFollowedAndToldWithTheRemedy(t *testing.T) {
	if !inside(t) {
		return
	}
	set(t, "user.max_inotify_watches", 20)
	b := idle(t)
	b.sh("chmod 755 .; for i in $(seq 40); do mkdir -p d$i/e; echo $i > d$i/e/f; done")
	b.start(spec.WatchRule{Action: spec.WatchSync, InitialSync: true})
	b.eventually("told", func() bool { return b.told(Warning, "looked at every") })
	b.mu.Lock()
	for _, e := range b.events {
		if e.Kind == Warning {
			says(t, e.Text, "user.max_inotify_watches, is 20 and reached", "sysctl user.max_inotify_watches=1048576", b.src)
		}
	}
	b.mu.Unlock()
	b.same("/app")
	for i := range 3 {
		b.sh(fmt.Sprintf("for i in $(seq 40); do echo round %[1]d > d$i/e/f; done; mkdir -p new%[1]d/deep; echo x > new%[1]d/deep/f; rm -r d%[2]d/e; mkdir d%[2]d/e", i, i+30))
		b.same("/app")
	}
	b.mu.Lock()
	warnings := 0
	for _, e := range b.events {
		if e.Kind == Warning {
			warnings++
		}
	}
	b.mu.Unlock()
	if warnings != 1 {
		t.Errorf("told %d times", warnings)
	}
	// With more room all is watched again, and nothing has to be looked for.
	set(t, "user.max_inotify_watches", 1000)
	b.eventually("all watched", func() bool { // a rescan finds room
		b.sh("date +%N > d40/e/f")
		start := time.Now()
		b.same("/app")
		return time.Since(start) < rescanEvery/4
	})

	set(t, "user.max_inotify_watches", 0)
	in, err := NewInputs()
	b.must(err)
	defer in.Close()
	if err := in.Set([]string{filepath.Join(b.src, "compose.yaml")}, time.Now()); err == nil {
		t.Error("the stack file is watched")
	} else {
		says(t, err.Error(), "watch "+b.src, "user.max_inotify_watches, is 0", "sysctl user.max_inotify_watches=")
	}
}

func TestAWatchBeyondTheKernelsLimitIsRefusedWithTheRemedy(t *testing.T) {
	if !inside(t) {
		return
	}
	set(t, "user.max_inotify_instances", 1)
	in, err := NewInputs()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_, err = newTree(nil, func(Event) {})
	if err == nil {
		t.Fatal("there is a second one")
	}
	says(t, err.Error(), "watch files", "user.max_inotify_instances, is 1 and reached", "sysctl user.max_inotify_instances=1024")
	if _, err := NewInputs(); err == nil {
		t.Error("there is a second one")
	} else {
		says(t, err.Error(), "watch the stack file", "sysctl user.max_inotify_instances=1024")
	}
	// Without the third instance files that are being written to are looked at again and again.
	set(t, "user.max_inotify_instances", 2)
	b := idle(t)
	b.sh("chmod 755 .")
	b.start(syncing1)
	b.eventually("told", func() bool { return b.told(Warning, "sysctl user.max_inotify_instances=1024") })
	f, err := os.Create(b.src + "/f")
	b.must(err)
	_, err = f.WriteString("whole")
	b.must(err)
	b.must(f.Close())
	b.same("/app")
}
